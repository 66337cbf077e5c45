//! What docs/senders.md tells people to copy, as the tests use it.

use std::path::Path;

/// The address in the blocks.
pub(crate) const ADDRESS: &str = "https://roundel.example";

/// The fenced block with this number (from 0) in a section of docs/senders.md.
pub(crate) fn block(section: &str, number: usize) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/senders.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, rest) = text
        .split_once(&format!("\n## {section}\n"))
        .unwrap_or_else(|| panic!("docs/senders.md has no section {section}"));
    let section_text = rest.split("\n## ").next().unwrap();
    // Every other piece between fences is a block; its first line is the fence's word.
    let block = section_text.split("\n```").skip(1).step_by(2).nth(number);
    let block = block.unwrap_or_else(|| panic!("{section} has no block {number}"));
    block.split_once('\n').unwrap().1.to_owned() + "\n"
}
