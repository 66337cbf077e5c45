//! Scraping: targets listed in files, or found in our own registry, are asked for their pages at their
//! time, and what vanishes from a page is ended.

pub(crate) mod access;
pub(crate) mod fetch;
pub(crate) mod page;
pub(crate) mod run;
pub(crate) mod seen;
mod targets;

pub use run::{Scraper, run};
