//! The configuration of channels: what is taken, and what is refused with which remedy.

use serde::Deserialize;

use crate::config::{Config, MailSection, WebhookSection};

/// The part of the program's configuration file that is ours.
#[derive(Deserialize)]
struct Document {
    mail: Option<MailSection>,
    #[serde(default)]
    webhook: Vec<WebhookSection>,
}

fn check(text: &str) -> Result<Config, Vec<String>> {
    let document: Document = toml::from_str(text).map_err(|error| vec![error.to_string()])?;
    let checked = Config::check(document.mail.as_ref(), &document.webhook, "roundel.toml", text);
    checked.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn names(text: &str) -> Vec<String> {
    let folder = std::path::Path::new("unused");
    check(text).unwrap().channels(None, folder).unwrap().names()
}

const HOOK: &str = "[[webhook]]\nname = \"scaler\"\nurl = \"https://example.org/hook\"\n\
                    secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";

#[test]
fn each_recipient_and_each_webhook_is_a_channel() {
    assert_eq!(names(""), ["mail:operator@localhost"], "files, until somebody is named");
    let text = format!(
        "[mail]\nto = [\"a@example.org\", \"Night <b@example.org>\"]\nfrom = \"r@example.org\"\n\
         smtp = \"smtps://user:p%40ss@mail.example.org\"\n{HOOK}"
    );
    assert_eq!(names(&text), ["mail:a@example.org", "mail:b@example.org", "webhook:scaler"]);
}

#[test]
fn each_mistake_is_named_with_its_line_and_remedy() {
    for (text, line, said) in [
        ("[mail]\nto = [\"nobody\"]", 2, "is not a mail address"),
        ("[mail]\nto = [\"a@b.org\",\n\"a@b.org\"]", 3, "listed twice"),
        ("[mail]\nsmtp = \"smtps://h\"", 2, "nobody is told"),
        ("[mail]\nto=[\"a@b.org\"]\nsmtp = \"smtps://h\"", 3, "needs a sender"),
        ("[mail]\nsmtp = \"http://h\"", 2, "unknown scheme"),
        ("[mail]\nsmtp = \"smtp://h?tls=none\"", 2, "this machine only"),
        ("[mail]\nsmtp = \"smtp://u:p@127.0.0.1?tls=none\"", 2, "not sent in the clear"),
        ("[mail]\nsmtp = \"smtps://u:p%4@h\"", 2, "two hex digits"),
        ("[mail]\nsmtp = \"smtps://u:p%+4@h\"", 2, "two hex digits"),
        ("[mail]\nsmtp = \"smtps://u@h\"", 2, "a user without a password"),
        ("[[webhook]]\nname = \"x\"\nurl = \"https://h/\"", 2, "add `secret = \"whsec_"),
        ("[[webhook]]\nname = \"x\"\nurl = \"https://h/\"\nsecret = \"s\"", 4, "whsec_"),
        ("[[webhook]]\nname = \"x\"\nurl = \"ftp://h/\"", 3, "not an http or https URL"),
        ("[[webhook]]\nname = \"x\"\nurl = \"http://169.254.169.254/\"", 3, "link-local"),
        ("[[webhook]]\nname = \"x\"\nurl = \"https://u:p@h/\"", 3, "a login in the URL"),
        ("[[webhook]]\nname = \"\"\nurl = \"https://h/\"", 2, "empty or used twice"),
    ] {
        let problems = check(text).expect_err(text);
        let place = format!("roundel.toml:{line}: ");
        let named = problems.iter().any(|one| one.starts_with(&place) && one.contains(said));
        assert!(named, "{text}: {problems:#?}");
    }
}

#[test]
fn an_unknown_key_is_refused() {
    let problems = check("[mail]\nrecipients = []").unwrap_err();
    assert!(problems[0].contains("unknown field `recipients`"), "{problems:?}");
}

#[test]
fn no_secret_is_ever_shown() {
    let text = format!(
        "[mail]\nto = [\"a@example.org\"]\nfrom = \"r@example.org\"\n\
         smtp = \"smtps://user:hunter2@mail.example.org\"\n{HOOK}"
    );
    let document: Document = toml::from_str(&text).unwrap();
    let shown = format!("{:?} {:?} {:?}", document.mail, document.webhook, check(&text));
    assert!(!shown.contains("hunter2") && !shown.contains("MfKQ9r8"), "{shown}");
}
