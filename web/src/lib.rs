//! All that a person or a program asks: pages, graphs, JSON API.
//!
//! Pages are rendered here and readable without scripts; graphs are SVG drawn by plotters on our
//! own canvas. Nothing in this crate changes data: it sees the other parts through [`views`].

pub mod views;

pub mod graph;
pub mod panel;
pub mod period;
pub mod template;

mod api;
mod assets;
mod guard;
mod pages;
mod routes;
pub mod sessions;
mod words;

mod sample;

#[cfg(test)]
mod rig;

pub use routes::router;
pub use sample::render_sample_svg;
pub use sessions::Sessions;
pub use views::Web;
