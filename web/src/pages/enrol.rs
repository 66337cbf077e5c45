//! Adding an instance: a form that mints a token and shows the command that uses it, once.

use askama::Template;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::answer;
use super::shell::{Shell, server_url};
use crate::views::{TokenKind, TokenView, Web};
use crate::words;

/// A note is a few words.
const LONGEST_NOTE: usize = 100;

#[derive(Template)]
#[template(path = "enrol.html")]
struct Page {
    shell: Shell,
    problem: Option<String>,
    minted: Option<Shown>,
    tokens: Vec<Row>,
}

/// A new token in the words that are to be copied.
struct Shown {
    heading: &'static str,
    advice: &'static str,
    text: String,
    until: Option<String>,
}

struct Row {
    kind: &'static str,
    note: String,
    minted: String,
    until: String,
    used: u64,
}

/// What the form sends.
#[derive(Deserialize)]
pub(crate) struct Wish {
    kind: String,
    #[serde(default)]
    note: String,
}

/// `GET /enrol`
pub(crate) async fn show(State(web): State<Web>, headers: HeaderMap) -> Response {
    page(&web, &headers, StatusCode::OK, None, None)
}

/// `POST /enrol`
pub(crate) async fn mint(
    State(web): State<Web>,
    headers: HeaderMap,
    Form(wish): Form<Wish>,
) -> Response {
    let kind = match wish.kind.as_str() {
        "join" => TokenKind::Join,
        "relay" => TokenKind::Relay,
        _ => {
            let problem = "A token is for joining or for relaying.".to_owned();
            return page(&web, &headers, StatusCode::BAD_REQUEST, Some(problem), None);
        }
    };
    let note: String = wish.note.trim().chars().take(LONGEST_NOTE).collect();
    match web.enrolment.mint(kind, note).await {
        Err(problem) => page(&web, &headers, StatusCode::SERVICE_UNAVAILABLE, Some(problem), None),
        Ok(minted) => {
            let zone = super::shell::zone_of(&web, &headers);
            let shown = Shown {
                text: instructions(kind, &server_url(&web, &headers), &minted.token),
                until: minted.expires_at.map(|at| words::moment(at, &zone)),
                ..Shown::about(kind)
            };
            page(&web, &headers, StatusCode::OK, None, Some(shown))
        }
    }
}

impl Shown {
    fn about(kind: TokenKind) -> Self {
        let (heading, advice) = match kind {
            TokenKind::Join => ("Run this on the machine", "The command holds a new token."),
            TokenKind::Relay => ("Add this to prometheus.yml", "The block holds a new token."),
        };
        Self { heading, advice, text: String::new(), until: None }
    }
}

/// What a person copies: a command, or a block of configuration.
fn instructions(kind: TokenKind, url: &str, token: &str) -> String {
    match kind {
        TokenKind::Join => format!("roundel agent --collector {url} --token {token}"),
        TokenKind::Relay => format!(
            "remote_write:\n  - url: {url}/api/v1/write\n    authorization:\n      credentials: {token}"
        ),
    }
}

fn page(
    web: &Web,
    headers: &HeaderMap,
    status: StatusCode,
    problem: Option<String>,
    minted: Option<Shown>,
) -> Response {
    let shell = Shell::of(web, headers, "/enrol");
    let tokens = web.enrolment.tokens().into_iter().map(|token| Row::of(token, &shell)).collect();
    answer(status, &Page { shell, problem, minted, tokens })
}

impl Row {
    fn of(token: TokenView, shell: &Shell) -> Self {
        let moment = |at| words::moment(at, &shell.zone);
        Self {
            kind: match token.kind {
                TokenKind::Join => "Join",
                TokenKind::Relay => "Relay",
            },
            note: if token.note.is_empty() { "–".to_owned() } else { token.note },
            minted: moment(token.minted_at),
            until: token.expires_at.map_or("withdrawn by hand".to_owned(), moment),
            used: token.used,
        }
    }
}
