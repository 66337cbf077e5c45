//! DNS messages: one question, and what an answer to it says.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of the head of a message.
const HEAD: usize = 12;
/// Labels of a name; more is a name that points to itself.
const LABELS_MAX: usize = 128;
/// Records of an answer that are read: a message of 64 KiB may hold 5,000.
const RECORDS_MAX: usize = 500;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum RecordKind {
    A = 1,
    Ns = 2,
    Cname = 5,
    Soa = 6,
    Ptr = 12,
    Mx = 15,
    Txt = 16,
    Aaaa = 28,
    Srv = 33,
    Caa = 257,
}

impl RecordKind {
    const ALL: [(Self, &str); 10] = [
        (Self::A, "A"),
        (Self::Ns, "NS"),
        (Self::Cname, "CNAME"),
        (Self::Soa, "SOA"),
        (Self::Ptr, "PTR"),
        (Self::Mx, "MX"),
        (Self::Txt, "TXT"),
        (Self::Aaaa, "AAAA"),
        (Self::Srv, "SRV"),
        (Self::Caa, "CAA"),
    ];

    /// The kind with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, word)| word.eq_ignore_ascii_case(name));
        found.map(|(kind, _)| *kind)
    }

    fn numbered(number: u16) -> Option<Self> {
        Self::ALL.iter().map(|(kind, _)| *kind).find(|kind| *kind as u16 == number)
    }
}

/// A question to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Without a dot at its end.
    pub(super) name: String,
    pub(super) kind: RecordKind,
}

/// What a server answers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// 0 is good, 3 is "no such name".
    pub(super) code: u8,
    /// The rest is to be had over TCP.
    pub(super) is_truncated: bool,
    /// Records of the answer, of who is in charge, and of what else may help.
    pub(super) counts: [u16; 3],
    /// The records of the answer as text, of the kinds that we know.
    pub(super) records: Vec<String>,
    /// The serial number of a zone, where it was asked for.
    pub(super) serial: Option<u32>,
}

impl Question {
    /// The question that a person wrote; `None` when that is no name.
    pub(super) fn of(name: &str, kind: RecordKind) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_label = |label: &str| (1..=63).contains(&label.len());
        let good = name.is_empty() || (name.len() <= 253 && name.split('.').all(is_label));
        (good && name.is_ascii()).then(|| Self { name: name.to_owned(), kind })
    }

    /// The message that asks it, with its answer wanted in full.
    pub(super) fn message(&self, id: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEAD + self.name.len() + 6);
        for number in [id, 0x0100, 1, 0, 0, 0] {
            put(number, &mut message);
        }
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).expect("checked when it was made"));
            message.extend(label.as_bytes());
        }
        message.push(0);
        put(self.kind as u16, &mut message);
        put(1, &mut message);
        message
    }

    /// The answer in a message; `None` when it is none to this question.
    pub(super) fn answered(&self, id: u16, message: &[u8]) -> Option<Answer> {
        let mut reader = Reader { message, at: HEAD };
        let head = |at: usize| number(message, at * 2);
        let flags = head(1)?;
        let is_answer = flags & 0x8000 != 0;
        if head(0)? != id || !is_answer || head(2)? != 1 {
            return None;
        }
        let name = reader.name()?;
        if !name.eq_ignore_ascii_case(&self.name) || reader.number()? != self.kind as u16 {
            return None;
        }
        reader.number()?;
        let mut answer = Answer {
            code: u8::try_from(flags & 0x0f).expect("four bits"),
            is_truncated: flags & 0x0200 != 0,
            counts: [head(3)?, head(4)?, head(5)?],
            ..Answer::default()
        };
        // What is cut off is asked for again.
        for _ in 0..usize::from(answer.counts[0]).min(RECORDS_MAX) {
            match reader.record(&mut answer) {
                None if !answer.is_truncated => return None,
                None => break,
                Some(()) => {}
            }
        }
        Some(answer)
    }
}

fn put(number: u16, into: &mut Vec<u8>) {
    into.push(u8::try_from(number >> 8).expect("the upper half"));
    into.push(u8::try_from(number & 0xff).expect("the lower half"));
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from(*bytes.get(at)?) << 8 | u16::from(*bytes.get(at + 1)?))
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u16> {
        let found = number(self.message, self.at)?;
        self.at += 2;
        Some(found)
    }

    fn long(&mut self) -> Option<u32> {
        Some(u32::from(self.number()?) << 16 | u32::from(self.number()?))
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let found = self.message.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(found)
    }

    /// A name, which may go on at an earlier place.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let (mut at, mut end) = (self.at, None);
        for _ in 0..LABELS_MAX {
            let len = usize::from(*self.message.get(at)?);
            match len {
                0 => {
                    self.at = end.unwrap_or(at + 1);
                    return Some(name);
                }
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + len)?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(&String::from_utf8_lossy(label));
                    at += 1 + len;
                }
                0xc0.. => {
                    end = end.or(Some(at + 2));
                    let target = usize::from(number(self.message, at)? & 0x3fff);
                    // Only back, so that it ends.
                    at = (target < at).then_some(target)?;
                }
                _ => return None,
            }
        }
        None
    }

    fn record(&mut self, answer: &mut Answer) -> Option<()> {
        self.name()?;
        let kind = self.number()?;
        let (_class, _ttl) = (self.number()?, self.long()?);
        let len = usize::from(self.number()?);
        let end = self.at.checked_add(len).filter(|end| *end <= self.message.len())?;
        if let Some(kind) = RecordKind::numbered(kind) {
            let mut inside = Reader { message: self.message.get(..end)?, at: self.at };
            let text = inside.data(kind, end, answer)?;
            answer.records.push(text);
        }
        self.at = end;
        Some(())
    }

    /// What a record says, as text.
    fn data(&mut self, kind: RecordKind, end: usize, answer: &mut Answer) -> Option<String> {
        Some(match kind {
            RecordKind::A => {
                let bytes: [u8; 4] = self.bytes(4)?.try_into().ok()?;
                Ipv4Addr::from(bytes).to_string()
            }
            RecordKind::Aaaa => {
                let bytes: [u8; 16] = self.bytes(16)?.try_into().ok()?;
                Ipv6Addr::from(bytes).to_string()
            }
            RecordKind::Ns | RecordKind::Cname | RecordKind::Ptr => self.name()?,
            RecordKind::Mx => format!("{} {}", self.number()?, self.name()?),
            RecordKind::Srv => {
                let (priority, weight, port) = (self.number()?, self.number()?, self.number()?);
                format!("{priority} {weight} {port} {}", self.name()?)
            }
            RecordKind::Soa => {
                let (server, person, serial) = (self.name()?, self.name()?, self.long()?);
                answer.serial = Some(serial);
                format!("{server} {person} {serial}")
            }
            RecordKind::Txt => {
                let mut text = String::new();
                while self.at < end {
                    let len = usize::from(*self.bytes(1)?.first()?);
                    text.push_str(&String::from_utf8_lossy(self.bytes(len)?));
                }
                text
            }
            RecordKind::Caa => {
                let flags = *self.bytes(1)?.first()?;
                let len = usize::from(*self.bytes(1)?.first()?);
                let tag = String::from_utf8_lossy(self.bytes(len)?).into_owned();
                let value = self.bytes(end.checked_sub(self.at)?)?;
                let mut text = String::new();
                write!(text, "{flags} {tag} {}", String::from_utf8_lossy(value)).ok()?;
                text
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(kind: RecordKind) -> Question {
        Question::of("www.example.org.", kind).unwrap()
    }

    /// An answer to `question` with these records: kind and data.
    fn message(question: &Question, flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question.message(7);
        let count = u16::try_from(records.len()).unwrap();
        for (at, number) in [(2, flags), (6, count), (8, 2), (10, 1)] {
            message[at] = u8::try_from(number >> 8).unwrap();
            message[at + 1] = u8::try_from(number & 0xff).unwrap();
        }
        for (kind, data) in records {
            // The name of the question, by reference.
            message.extend([0xc0, 12]);
            put(*kind, &mut message);
            message.extend([0, 1, 0, 0, 0, 60]);
            put(u16::try_from(data.len()).unwrap(), &mut message);
            message.extend(*data);
        }
        message
    }

    #[test]
    fn records_are_read_as_text() {
        let www = b"\x03mx1\xc0\x10";
        for (kind, number, data, text) in [
            (RecordKind::A, 1, &[192, 0, 2, 7][..], "192.0.2.7"),
            (RecordKind::Aaaa, 28, &[0; 16], "::"),
            (RecordKind::Cname, 5, www, "mx1.example.org"),
            (RecordKind::Mx, 15, &[&[0, 10], &www[..]].concat(), "10 mx1.example.org"),
            (RecordKind::Txt, 16, b"\x03v=1\x04more", "v=1more"),
            (RecordKind::Srv, 33, b"\x00\x01\x00\x02\x14\x66\x00", "1 2 5222 "),
            (RecordKind::Caa, 257, b"\x00\x05issueletsencrypt.org", "0 issue letsencrypt.org"),
        ] {
            let question = question(kind);
            let message = message(&question, 0x8180, &[(number, data)]);
            let answer = question.answered(7, &message).unwrap();
            assert_eq!(answer.records, [text], "{kind:?}");
            assert_eq!((answer.code, answer.counts), (0, [1, 2, 1]));
            for len in 0..message.len() {
                assert_eq!(question.answered(7, &message[..len]), None, "{kind:?} cut at {len}");
            }
        }
    }

    #[test]
    fn the_serial_number_of_a_zone_is_told() {
        let question = question(RecordKind::Soa);
        let data = b"\x00\x00\x78\xcb\x4b\x01and the rest";
        let answer = question.answered(7, &message(&question, 0x8180, &[(6, data)])).unwrap();
        assert_eq!(answer.serial, Some(2_026_588_929));
    }

    #[test]
    fn only_an_answer_to_the_question_is_one() {
        let asked = question(RecordKind::A);
        let good = message(&asked, 0x8183, &[]);
        assert_eq!(asked.answered(7, &good).unwrap().code, 3);
        assert_eq!(asked.answered(8, &good), None, "another number");
        assert_eq!(question(RecordKind::Mx).answered(7, &good), None, "another kind");
        let other = Question::of("www.example.com", RecordKind::A).unwrap();
        assert_eq!(other.answered(7, &good), None, "another name");
        assert_eq!(asked.answered(7, &asked.message(7)), None, "a question");
        let cut = message(&asked, 0x8380, &[(1, &[192, 0, 2, 7]), (1, &[0; 4])]);
        let answer = asked.answered(7, &cut[..cut.len() - 3]).unwrap();
        assert!(answer.is_truncated && answer.records.len() == 1);
    }

    #[test]
    fn a_name_that_points_to_itself_ends() {
        let asked = question(RecordKind::A);
        let mut message = message(&asked, 0x8180, &[(1, &[192, 0, 2, 7])]);
        let at = asked.message(7).len();
        for target in [at, at + 2, 0x3fff] {
            message[at] = 0xc0 | u8::try_from(target >> 8).unwrap();
            message[at + 1] = u8::try_from(target & 0xff).unwrap();
            assert_eq!(asked.answered(7, &message), None);
        }
    }

    #[test]
    fn names_have_the_length_that_fits() {
        let long = "x".repeat(64);
        for (name, good) in [
            ("example.org", true),
            (".", true),
            ("_sip._tcp.example.org", true),
            ("a..b", false),
            (long.as_str(), false),
            (&["x"; 130].join("."), false),
            ("größe.example", false),
        ] {
            assert_eq!(Question::of(name, RecordKind::A).is_some(), good, "{name}");
        }
    }
}
