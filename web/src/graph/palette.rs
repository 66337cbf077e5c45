//! Colours: eight hues that colour-blind people tell apart, each for light and for dark.

use std::fmt::Write;

/// A colour of the palette. It belongs to the key of a series, not to its place in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Hue {
    Blue,
    Orange,
    Green,
    Purple,
    Red,
    Sky,
    Gold,
    Brown,
    Grey,
    Pale,
}

/// Which colours a standalone image has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the viewer's system prefers.
    #[default]
    Auto,
    /// Dark ink on white.
    Light,
    /// Light ink on near-black.
    Dark,
}

/// Hue, name, colour on white, colour on near-black. `Grey` and `Pale` are for what matters least.
const TABLE: [(Hue, &str, &str, &str); 10] = [
    (Hue::Blue, "blue", "#2b6cb0", "#63a4ea"),
    (Hue::Orange, "orange", "#d9650b", "#f79a4b"),
    (Hue::Green, "green", "#0b8a6f", "#3cc4a0"),
    (Hue::Purple, "purple", "#8548a8", "#c08be4"),
    (Hue::Red, "red", "#c2334d", "#f2768b"),
    (Hue::Sky, "sky", "#2d94c4", "#86cff2"),
    (Hue::Gold, "gold", "#9c7a06", "#dcbb45"),
    (Hue::Brown, "brown", "#7d5b46", "#c4a389"),
    (Hue::Grey, "grey", "#6d7783", "#98a3b0"),
    (Hue::Pale, "pale", "#c9d2db", "#3a4552"),
];

/// The hues that are handed out to keys without a colour of their own.
const FREE: usize = 8;

impl Hue {
    /// The hue of this name, as templates write it.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Its class in SVG and HTML.
    pub fn class(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("grey", |row| row.1)
    }

    /// Hues for `keys`: a key keeps its hue however the set around it is ordered, and where two
    /// keys want the same one, the one later in the alphabet takes the next that is free.
    pub fn assign(keys: &[&str], taken: &[Self]) -> Vec<Self> {
        let mut used: Vec<Self> = taken.to_vec();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|&at| keys[at]);
        let mut hues = vec![Self::Grey; keys.len()];
        for at in order {
            let wanted = wish(keys[at]);
            let free = (0..FREE)
                .map(|shift| TABLE[(wanted + shift) % FREE].0)
                .find(|hue| !used.contains(hue));
            hues[at] = free.unwrap_or(TABLE[wanted].0);
            used.push(hues[at]);
        }
        hues
    }
}

/// Which hue a key would like: FNV-1a, because it must never change between versions.
fn wish(key: &str) -> usize {
    let hash = key
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    usize::try_from(hash).unwrap_or(0) % FREE
}

/// The CSS variables of the palette, for one theme.
pub fn css_variables(dark: bool) -> String {
    let mut css = String::new();
    for (_, name, on_white, on_black) in TABLE {
        write!(css, "--{name}:{};", if dark { on_black } else { on_white })
            .expect("a string takes all");
    }
    css
}

/// One rule per hue: whatever has its class draws in `--hue`.
pub fn css_classes() -> String {
    let mut css = String::new();
    for (_, name, _, _) in TABLE {
        write!(css, ".{name}{{--hue:var(--{name})}}").expect("a string takes all");
    }
    css
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let byte = u8::from_str_radix(colour.get(at..at + 2).unwrap(), 16).unwrap();
            let c = f64::from(byte) / 255.0;
            if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        if a > b { a / b } else { b / a }
    }

    #[test]
    fn lines_are_seen_on_their_background() {
        for (hue, name, on_white, on_black) in TABLE {
            if hue == Hue::Pale {
                continue; // A fill behind everything else, never a line.
            }
            assert!(contrast(on_white, "#ffffff") >= 3.0, "{name} on white");
            assert!(contrast(on_black, "#14181d") >= 3.0, "{name} on black");
        }
    }

    #[test]
    fn a_key_keeps_its_hue_whatever_stands_beside_it_in_which_order() {
        let one = Hue::assign(&["eth0", "lo"], &[]);
        let two = Hue::assign(&["lo", "eth0"], &[]);
        assert_eq!((one[0], one[1]), (two[1], two[0]));
        assert_ne!(one[0], one[1]);
    }

    #[test]
    fn more_keys_than_hues_still_get_one_each() {
        let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(Hue::assign(&keys, &[]).len(), 20);
    }
}
