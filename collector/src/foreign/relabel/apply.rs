//! A rule at work on the labels of one series, within bounds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use regex::Regex;

use super::{Action, Refusal, Rule};
use crate::accounting::Reason;
use crate::limits::{LABEL_NAME_LIMIT, LABEL_VALUE_LIMIT};

/// Bytes of all labels while rules work on them, and of one text that a rule makes: far above what
/// a series may have, and small enough that no rules of a few lines make gigabytes of one label.
const WORK_LIMIT: usize = LABEL_VALUE_LIMIT * LABEL_NAME_LIMIT;
/// What a label takes beside its texts.
pub(super) const LABEL_OVERHEAD: usize = 64;

impl Rule {
    /// Changes labels; false where the series is left out.
    pub(super) fn apply(
        &self,
        regex: &Regex,
        map: &mut BTreeMap<String, String>,
    ) -> Result<bool, Refusal> {
        match self.action {
            Action::Keep => return Ok(regex.is_match(&self.joined(map)?)),
            Action::Drop => return Ok(!regex.is_match(&self.joined(map)?)),
            Action::Replace => self.replace(regex, map)?,
            Action::LabelMap => self.copy(regex, map)?,
            Action::LabelDrop => map.retain(|name, _| !regex.is_match(name)),
            Action::LabelKeep => map.retain(|name, _| regex.is_match(name)),
        }
        Ok(true)
    }

    fn copy(&self, regex: &Regex, map: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
        let mut copies = Vec::new();
        let mut size = 0;
        for (name, value) in map.iter() {
            let Some(copy) = expanded(regex, name, &self.replacement)? else { continue };
            size += copy.len() + value.len() + LABEL_OVERHEAD;
            within([size])?;
            copies.push((copy, value.clone()));
        }
        map.extend(copies.into_iter().filter(|(name, _)| !name.is_empty()));
        Ok(())
    }

    fn replace(&self, regex: &Regex, map: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
        let joined = self.joined(map)?.into_owned();
        let Some(target) = expanded(regex, &joined, &self.target_label)? else { return Ok(()) };
        let value = expanded(regex, &joined, &self.replacement)?.unwrap_or_default();
        if value.is_empty() {
            map.remove(&target);
        } else if !target.is_empty() {
            map.insert(target, value);
        }
        Ok(())
    }

    fn joined<'a>(&self, map: &'a BTreeMap<String, String>) -> Result<Cow<'a, str>, Refusal> {
        let value = |name: &String| map.get(name).map_or("", String::as_str);
        Ok(match self.source_labels.as_slice() {
            [] => Cow::Borrowed(""),
            [one] => Cow::Borrowed(value(one)),
            all => {
                within(all.iter().map(|name| value(name).len() + self.separator.len()))?;
                Cow::Owned(all.iter().map(value).collect::<Vec<_>>().join(&self.separator))
            }
        })
    }
}

/// `template` with what `regex` found in `text`; `None` where it does not match. Refused where all of
/// `text` in the place of each `$` would be too much.
fn expanded(regex: &Regex, text: &str, template: &str) -> Result<Option<String>, Refusal> {
    let Some(captures) = regex.captures(text) else { return Ok(None) };
    let places = template.matches('$').count();
    within([template.len(), text.len().saturating_mul(places)])?;
    let mut value = String::new();
    captures.expand(template, &mut value);
    Ok(Some(value))
}

/// Refuses texts of these bytes when they are more together than rules may make.
pub(super) fn within(sizes: impl IntoIterator<Item = usize>) -> Result<(), Refusal> {
    let size = sizes.into_iter().fold(0, usize::saturating_add);
    if size <= WORK_LIMIT {
        return Ok(());
    }
    let message = format!(
        "the operator's rules make more than {WORK_LIMIT} bytes of its labels; repeat less of them"
    );
    Err((Reason::LabelLimit, message))
}
