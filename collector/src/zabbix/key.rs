//! Item keys: `net.if.in[eth0,"a, b",[x,y]]`, a name and its parameters.

/// Parameters of a key that become labels; longer lists are no keys of ours.
const PARAMETER_LIMIT: usize = 16;

/// The name and the parameters of a key, unquoted; an array stays one text. `None` when it is none.
pub(super) fn parameters(key: &str) -> Option<(&str, Vec<String>)> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let (name, list) = match key.split_once('[') {
        None => (key, None),
        Some((name, list)) => (name, Some(list.strip_suffix(']')?)),
    };
    if name.is_empty() || !name.chars().all(legal) {
        return None;
    }
    let mut found = Vec::new();
    let mut rest = list;
    while let Some(text) = rest {
        if found.len() == PARAMETER_LIMIT {
            return None;
        }
        let (parameter, behind) = first(text.trim_start_matches(' '))?;
        found.push(parameter);
        let behind = behind.trim_start_matches(' ');
        rest = match behind.strip_prefix(',') {
            None if behind.is_empty() => None,
            None => return None,
            Some(behind) => Some(behind),
        };
    }
    Some((name, found))
}

/// The first parameter of a list, and what is behind it.
fn first(text: &str) -> Option<(String, &str)> {
    match text.as_bytes().first() {
        Some(b'"') => quoted(text),
        Some(b'[') => {
            let (inside, behind) = text.split_at(array_end(text)?);
            Some((inside.strip_prefix('[')?.strip_suffix(']')?.to_owned(), behind))
        }
        _ => {
            let (plain, behind) = text.split_at(text.find(',').unwrap_or(text.len()));
            (!plain.contains(']')).then(|| (plain.to_owned(), behind))
        }
    }
}

/// A text in quotes, in which `\"` is a quote and nothing else is escaped.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut plain = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((plain, text.get(at + 1..)?)),
            '\\' if letters.next_if(|(_, next)| *next == '"').is_some() => plain.push('"'),
            _ => plain.push(letter),
        }
    }
    None
}

/// Where an array ends, which holds no other.
fn array_end(text: &str) -> Option<usize> {
    let mut rest = text.char_indices().skip(1);
    let mut in_quotes = false;
    let mut before = ' ';
    rest.by_ref().find_map(|(at, letter)| {
        let escaped = before == '\\';
        before = letter;
        match letter {
            '"' if !escaped => in_quotes = !in_quotes,
            ']' if !in_quotes => return Some(at + 1),
            _ => {}
        }
        None
    })
}
