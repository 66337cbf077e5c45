//! The SVG canvas that plotters draws on: finer than a pixel, with classes instead of colours.

use std::convert::Infallible;
use std::fmt::Write;

use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    text_anchor::{HPos, VPos},
};

/// Plotters counts whole pixels; ours are an eighth of one, so that slopes are smooth.
pub(super) const FINE: i32 = 8;

/// A drawing as text. Colours of the caller are ignored: groups carry classes, CSS has colours.
pub(super) struct Canvas {
    out: String,
    size: (u32, u32),
}

impl Canvas {
    /// An empty canvas of `width` by `height` pixels.
    pub(super) fn new(width: u32, height: u32) -> Self {
        let fine = FINE.unsigned_abs();
        Self { out: String::with_capacity(16 * 1024), size: (width * fine, height * fine) }
    }

    /// Adds markup as it stands; whatever is not ours in it must have been escaped.
    pub(super) fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// Opens a group; `attributes` are markup.
    pub(super) fn open(&mut self, attributes: &str) {
        write!(self.out, "<g {attributes}>").expect("a string takes all");
    }

    /// Closes the group that was opened last.
    pub(super) fn close(&mut self) {
        self.out.push_str("</g>");
    }

    /// The drawing.
    pub(super) fn into_text(self) -> String {
        self.out
    }

    /// Writes tenths of a pixel, without the cost of formatting a float.
    fn tenths(&mut self, tenths: i64) {
        if tenths < 0 {
            self.out.push('-');
        }
        let size = tenths.abs();
        let whole = size / 10;
        if whole > 0 || size == 0 {
            self.whole(whole);
        }
        if size % 10 != 0 {
            self.out.push('.');
            self.out.push(char::from(b'0' + u8::try_from(size % 10).unwrap_or(0)));
        }
    }

    fn whole(&mut self, mut number: i64) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend(digits[at..].iter().copied().map(char::from));
    }

    fn number(&mut self, fine: i32) {
        self.tenths(in_tenths(fine));
    }

    /// Writes a number of a path, apart from the one before it.
    fn next(&mut self, tenths: i64) {
        if tenths >= 0 {
            self.out.push(' ');
        }
        self.tenths(tenths);
    }

    /// A path; steps are relative, which halves its length.
    fn path(&mut self, class: &str, points: impl IntoIterator<Item = BackendCoord>, closed: bool) {
        let mut points = points.into_iter().map(|(x, y)| (in_tenths(x), in_tenths(y)));
        let Some(mut here) = points.next() else { return };
        write!(self.out, "<path class=\"{class}\" d=\"M").expect("a string takes all");
        self.tenths(here.0);
        self.next(here.1);
        self.out.push('l');
        let mut empty = true;
        for (x, y) in points {
            let (right, down) = (x - here.0, y - here.1);
            if empty {
                self.tenths(right);
            } else {
                self.next(right);
            }
            self.next(down);
            (here, empty) = ((x, y), false);
        }
        if empty {
            self.out.push_str("0 0");
        }
        self.out.push_str(if closed { "z\"/>" } else { "\"/>" });
    }
}

/// Eighths of a pixel, as tenths.
fn in_tenths(fine: i32) -> i64 {
    (i64::from(fine) * 10 + 4).div_euclid(i64::from(FINE))
}

type Done = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Canvas {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Done {
        Ok(())
    }

    fn present(&mut self) -> Done {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Done {
        self.draw_rect(at, (at.0 + FINE, at.1 + FINE), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, _: &S) -> Done {
        self.path("l", [from, to], false);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        _: &S,
        fill: bool,
    ) -> Done {
        let corners = [from, (to.0, from.1), to, (from.0, to.1)];
        self.path(if fill { "a" } else { "l" }, corners, true);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        _: &S,
    ) -> Done {
        self.path("l", path, false);
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        _: &S,
        _fill: bool,
    ) -> Done {
        self.out.push_str("<circle class=\"d\" cx=\"");
        self.number(center.0);
        self.out.push_str("\" cy=\"");
        self.number(center.1);
        self.out.push_str("\" r=\"");
        self.number(i32::try_from(radius).unwrap_or(FINE));
        self.out.push_str("\"/>");
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        _: &S,
    ) -> Done {
        self.path("a", corners, true);
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &T,
        (x, y): BackendCoord,
    ) -> Done {
        let anchor = style.anchor();
        #[expect(clippy::cast_possible_truncation, reason = "a font is some pixels high")]
        let height = style.size() as i32;
        // `dominant-baseline` is missing in mail clients and converters, so the baseline is ours.
        let down = match anchor.v_pos {
            VPos::Top => height * 3 / 4,
            VPos::Center => height * 3 / 8,
            VPos::Bottom => 0,
        };
        self.out.push_str("<text x=\"");
        self.number(x);
        self.out.push_str("\" y=\"");
        self.number(y + down);
        self.out.push_str(match anchor.h_pos {
            HPos::Left => "\">",
            HPos::Center => "\" text-anchor=\"middle\">",
            HPos::Right => "\" text-anchor=\"end\">",
        });
        escape_into(&mut self.out, text);
        self.out.push_str("</text>");
        Ok(())
    }
}

/// `text` as XML and HTML spell it; control characters, which XML forbids, become spaces.
pub(super) fn escape_into(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if letter.is_control() => out.push(' '),
            // Not characters in XML 1.0: a parser may refuse the whole image for them.
            '\u{fffe}' | '\u{ffff}' => out.push(' '),
            letter => out.push(letter),
        }
    }
}

/// [`escape_into`] a new string.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_have_at_most_one_decimal() {
        for (fine, text) in [(0, "0"), (8, "1"), (2, ".3"), (12, "1.5"), (-8, "-1"), (6400, "800")]
        {
            let mut canvas = Canvas::new(10, 10);
            canvas.number(fine);
            assert_eq!(canvas.into_text(), text, "{fine} eighths");
        }
    }

    #[test]
    fn paths_go_by_relative_steps_without_drift() {
        let mut canvas = Canvas::new(10, 10);
        canvas.path("l", [(0, 8), (1, 16), (2, 8), (3, 8)], false);
        assert_eq!(canvas.into_text(), "<path class=\"l\" d=\"M0 1l.1 1 .2-1 .1 0\"/>");
    }

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(escaped("<b a='\"'>&\u{0}"), "&lt;b a=&#39;&quot;&#39;&gt;&amp; ");
    }
}
