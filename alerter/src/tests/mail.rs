//! Mail: what is in the file, and that nothing in a label can become a header.

use std::sync::Arc;

use base64::Engine as _;
use rrd::{Labels, Timestamp};

use crate::mail::{FILES_MOST, FileMailer, Mailbag, Mailer};
use crate::{Channel, IncidentId, Reason, State, Transition, TransitionId};

/// A transition to look at, of `subject`'s `cpu busy`.
pub(super) fn transition(instance: &str) -> Transition {
    let labels = Labels::from_pairs([("instance", instance), ("team", "web")]).unwrap();
    let incident = IncidentId::of("cpu busy", &labels, Timestamp::from_secs(1_767_225_600));
    Transition {
        id: TransitionId::of(incident, 2),
        incident,
        sequence: 2,
        rule: "cpu busy".to_owned(),
        labels,
        from: State::Warning,
        to: State::Critical,
        reason: Reason::Threshold,
        at: Timestamp::from_secs(1_767_225_900),
        value: Some(97.04),
        unit: "%".to_owned(),
        threshold: "> 95".to_owned(),
        since: Timestamp::from_secs(1_767_225_600),
        summary: format!("{instance} has little processor time left: 97 % busy."),
        notify: true,
    }
}

fn bag(mailer: Arc<dyn Mailer>) -> Mailbag {
    Mailbag {
        from: "Roundel <roundel@example.org>".parse().unwrap(),
        to: "Night shift <night@example.org>".parse().unwrap(),
        base_url: Some("https://roundel.example.org/".to_owned()),
        mailer,
    }
}

fn text_of(transition: &Transition) -> String {
    let mail = bag(Arc::new(FileMailer::new("unused"))).compose(transition).unwrap();
    String::from_utf8(mail.bytes).unwrap()
}

/// The unfolded value of a header; the first if there are several.
fn header(mail: &str, name: &str) -> Option<String> {
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let line = unfolded.lines().find(|line| line.starts_with(&format!("{name}: ")))?;
    Some(line.split_once(": ").unwrap().1.to_owned())
}

/// The decoded parts of a mail: plain text and HTML.
fn parts(mail: &str) -> (String, String) {
    let kind = header(mail, "Content-Type").unwrap();
    let boundary = kind.split('"').nth(1).unwrap();
    let all: Vec<String> = mail.split(&format!("--{boundary}")).map(decoded).collect();
    (all[1].clone(), all[2].clone())
}

/// The body of a part, its transfer encoding undone.
fn decoded(part: &str) -> String {
    let part = part.trim_start_matches("\r\n");
    let Some((head, body)) = part.split_once("\r\n\r\n") else { return String::new() };
    if head.contains("base64") {
        let joined: String = body.split_whitespace().collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(joined).unwrap();
        return String::from_utf8(bytes).unwrap();
    }
    if !head.contains("quoted-printable") {
        return body.to_owned();
    }
    let soft = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = soft.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'=' {
            let hex = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_subject_says_state_instance_rule_value_and_threshold() {
    let mail = text_of(&transition("web-1"));
    let subject = header(&mail, "Subject").unwrap();
    assert_eq!(subject, "[CRITICAL] web-1: cpu busy 97 % (> 95)");
}

#[test]
fn the_mails_of_an_incident_form_one_thread_and_carry_stable_ids() {
    let second = transition("web-1");
    let third = Transition { id: TransitionId::of(second.incident, 3), ..second.clone() };
    let (second_mail, third_mail) = (text_of(&second), text_of(&third));
    let id = format!("<{}@example.org>", second.id);
    assert_eq!(header(&second_mail, "Message-ID"), Some(id));
    assert_ne!(header(&second_mail, "Message-ID"), header(&third_mail, "Message-ID"));
    assert_eq!(header(&second_mail, "References"), header(&third_mail, "References"));
    assert_eq!(header(&second_mail, "Auto-Submitted").unwrap(), "auto-generated");
    assert_eq!(header(&second_mail, "Date").unwrap(), "Thu, 01 Jan 2026 00:05:00 +0000");
    assert_eq!(text_of(&second), second_mail, "the same bytes at every attempt");
}

#[test]
fn text_and_page_say_the_same_and_link_to_the_alert() {
    let told = transition("web-1");
    let (text, page) = parts(&text_of(&told));
    let link = format!("https://roundel.example.org/alerts#{}", told.incident);
    for said in ["CRITICAL (was WARNING)", "97 %", "2026-01-01T00:00:00Z", &link, "team = web"] {
        assert!(text.contains(said), "{said} in {text}");
        assert!(page.contains(said), "{said} in {page}");
    }
    assert!(text.contains("> 95") && page.contains("&gt; 95"));
    assert!(!page.contains("<img") && !page.contains("<script") && !page.contains("<link"));
}

#[test]
fn nothing_in_a_label_becomes_a_header_or_markup() {
    let nasty = "web-1\r\nBcc: all@example.org\r\n\r\n<script>alert(1)</script>\u{202e}";
    let mail = text_of(&transition(nasty));
    assert_eq!(header(&mail, "Bcc"), None, "{mail}");
    let (text, page) = parts(&mail);
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
    assert!(!text.contains("\r\nBcc:") && !text.contains('\u{202e}'), "{text}");
}

#[test]
fn long_and_foreign_names_fit_into_a_subject() {
    let mail = text_of(&transition(&"ü".repeat(1_000)));
    assert!(mail.is_ascii(), "encoded throughout");
    assert!(mail.lines().all(|line| line.len() <= 998), "lines as long as SMTP allows");
}

#[tokio::test]
async fn a_mail_file_is_whole_and_a_repeat_replaces_it() {
    let folder = tempfile::tempdir().unwrap();
    let bag = bag(Arc::new(FileMailer::new(folder.path().join("mail"))));
    let told = transition("web-1");
    for _ in 0..2 {
        bag.deliver(&told, Timestamp::from_secs(0)).await.unwrap();
    }
    let files: Vec<_> = std::fs::read_dir(folder.path().join("mail"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let name = files[0].file_name().unwrap().to_str().unwrap();
    let at = jiff::Timestamp::from_millisecond(told.at.as_millis()).unwrap();
    let at = at.strftime("%Y-%m-%dT%H-%M-%SZ");
    assert_eq!(name, format!("{at}-{}-night@example.org.eml", told.id));
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), text_of(&told));
}

#[test]
fn the_complaint_is_not_said_when_all_is_well_again() {
    let raised = Transition { summary: "web-1 is busy".to_owned(), ..transition("web-1") };
    let cleared = Transition { to: crate::State::Ok, ..raised.clone() };
    assert!(text_of(&raised).contains("web-1 is busy"));
    assert!(!text_of(&cleared).contains("web-1 is busy"));
}

#[tokio::test]
async fn the_oldest_mail_files_make_room_for_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..FILES_MOST {
        std::fs::write(folder.path().join(format!("1970-01-01T00-00-00Z-{number:04}.eml")), "")
            .unwrap();
    }
    let bag = bag(Arc::new(FileMailer::new(folder.path())));
    bag.deliver(&transition("web-1"), Timestamp::from_secs(0)).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), FILES_MOST);
    assert!(!folder.path().join("1970-01-01T00-00-00Z-0000.eml").exists(), "the oldest is gone");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_tried_again_later() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mail"), "a file in the way").unwrap();
    let bag = bag(Arc::new(FileMailer::new(folder.path().join("mail"))));
    let failure = bag.deliver(&transition("web-1"), Timestamp::from_secs(0)).await.unwrap_err();
    assert!(matches!(failure, crate::Failure::Later { .. }), "{failure:?}");
}
