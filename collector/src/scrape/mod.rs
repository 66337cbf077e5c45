//! Scraping: pages of targets fetched at their time, and what vanishes from them ended.

pub(crate) mod fetch;
pub(crate) mod seen;
