//! Files of rrdtool: read in both their forms, and mapped into archives of ours.
//!
//! Both readers give one neutral [`Dump`]; what is made of it does not know which form it had. Files
//! come from anywhere: every size is checked before it is believed.

mod column;
mod derive;
mod dump;
mod error;
mod layout;
mod markup;
mod native;
mod open_end;
mod rings;
mod take;
mod xml;

#[cfg(test)]
mod tests;

pub use derive::derive_policy;
pub use dump::{Dump, Function, Prepared, Rra, Source, SourceKind};
pub use error::ImportError;
pub use layout::{Layout, LayoutError, Place, Preset};
pub use take::{NewArchive, Taken, TakenSeries, write_archive};

use std::io::BufRead;

/// Reads a file of rrdtool in either form; `len` is its length in bytes, which its header must fit.
pub fn read(input: &mut dyn BufRead, len: u64) -> Result<Dump, ImportError> {
    if is_native(input)? { native::read(input, len) } else { xml::read(input) }
}

/// The names of the data sources of a file, without reading its rows.
pub fn source_names(input: &mut dyn BufRead, len: u64) -> Result<Vec<String>, ImportError> {
    if is_native(input)? { native::source_names(input, len) } else { xml::source_names(input) }
}

fn is_native(input: &mut dyn BufRead) -> Result<bool, ImportError> {
    Ok(input.fill_buf()?.starts_with(b"RRD"))
}
