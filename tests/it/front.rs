//! A front that stays while servers behind it come and go: senders keep one address.

use std::sync::{Arc, Mutex};

use ::http::{Request, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use crate::http;

/// A front on a free port of loopback.
pub(crate) struct Front {
    /// Such as `http://127.0.0.1:41234`.
    pub(crate) url: String,
    inside: Inside,
}

#[derive(Clone, Default)]
struct Inside(Arc<Mutex<Behind>>);

#[derive(Default)]
struct Behind {
    /// The server behind; `None` answers 503.
    server: Option<String>,
    turned_away: u64,
}

impl Front {
    /// A front with no server behind it.
    pub(crate) async fn start() -> Self {
        let inside = Inside::default();
        let router = Router::new().fallback(forward).with_state(inside.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inside }
    }

    /// Puts the server at `url` behind it.
    pub(crate) fn lead_to(&self, url: &str) {
        self.inside.0.lock().unwrap().server = Some(url.to_owned());
    }

    /// Answers 503 from now on; answers the server that was behind it.
    pub(crate) fn close(&self) -> Option<String> {
        self.inside.0.lock().unwrap().server.take()
    }

    /// Requests that got no further.
    pub(crate) fn turned_away(&self) -> u64 {
        self.inside.0.lock().unwrap().turned_away
    }
}

async fn forward(State(inside): State<Inside>, request: Request<Body>) -> Response {
    let server = inside.0.lock().unwrap().server.clone();
    let (mut head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return StatusCode::BAD_REQUEST.into_response() };
    let answer = match server {
        None => Err(StatusCode::SERVICE_UNAVAILABLE),
        Some(server) => {
            head.uri = format!("{server}{}", head.uri.path_and_query().unwrap()).parse().unwrap();
            head.headers.remove("host");
            let request: Request<Full<Bytes>> = Request::from_parts(head, body.to_bytes().into());
            http::send(request).await.ok_or(StatusCode::BAD_GATEWAY)
        }
    };
    match answer {
        Ok(answer) => (answer.status, answer.headers, answer.body).into_response(),
        Err(status) => {
            inside.0.lock().unwrap().turned_away += 1;
            status.into_response()
        }
    }
}
