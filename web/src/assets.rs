//! Assets: style sheet, script and logo, compiled in and named by what is in them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::graph::palette::{css_classes, css_variables};
use crate::graph::plot::GRAPH_CSS;

/// One file that never changes under its name.
pub(crate) struct Asset {
    /// Its path, with a hash of its content.
    pub(crate) path: String,
    name: String,
    kind: &'static str,
    content: String,
}

/// The style sheet of all pages.
pub(crate) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let (light, dark) = (css_variables(false), css_variables(true));
    let palette = format!(
        ":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{}",
        css_classes()
    );
    let page = include_str!("../assets/roundel.css");
    Asset::new("roundel", "css", "text/css; charset=utf-8", format!("{GRAPH_CSS}{page}{palette}"))
});

/// Refreshes graphs in place.
pub(crate) static LIVE: LazyLock<Asset> = LazyLock::new(|| {
    let text = include_str!("../assets/live.js").to_owned();
    Asset::new("live", "js", "text/javascript; charset=utf-8", text)
});

/// The logo, also the icon of the tab.
pub(crate) static LOGO: LazyLock<Asset> = LazyLock::new(|| {
    let text = include_str!("../assets/roundel.svg").to_owned();
    Asset::new("roundel", "svg", "image/svg+xml", text)
});

impl Asset {
    fn new(stem: &str, extension: &str, kind: &'static str, content: String) -> Self {
        let name = format!("{stem}-{:016x}.{extension}", fingerprint(content.as_bytes()));
        Self { path: format!("/assets/{name}"), name, kind, content }
    }
}

/// FNV-1a of 64 bits: names must differ when contents do; nobody attacks what is compiled in.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `GET /assets/{name}`
pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    let found = [&*STYLE, &*LIVE, &*LOGO].into_iter().find(|asset| asset.name == name);
    match found {
        Some(asset) => (
            [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            asset.content.as_str(),
        )
            .into_response(),
        None => (StatusCode::NOT_FOUND, "no such asset").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_scripts_stay_under_twenty_kilobytes() {
        assert!(LIVE.content.len() < 20_000);
    }

    #[test]
    fn names_change_with_content() {
        let one = Asset::new("a", "css", "text/css", "x".to_owned());
        let two = Asset::new("a", "css", "text/css", "y".to_owned());
        assert_ne!(one.path, two.path);
    }
}
