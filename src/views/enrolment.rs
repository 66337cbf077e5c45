//! Enrolment as pages see it: tokens made by the intake, listed from the registry.

use std::collections::BTreeMap;
use std::sync::Arc;

use collector::registry::{Instance, Source, Token, TokenKind};
use collector::{Intake, Registry, TokenRequest};
use rrd::{Clock, Timestamp};
use web::views::{self, EnrolmentView, Minted, Pending, TokenView};

/// Tokens.
pub(crate) struct Enrolment {
    pub(crate) intake: Intake,
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl EnrolmentView for Enrolment {
    fn mint(&self, kind: views::TokenKind, note: String) -> Pending<Result<Minted, String>> {
        let request = TokenRequest {
            kind: match kind {
                views::TokenKind::Join => TokenKind::Join,
                views::TokenKind::Relay => TokenKind::Relay,
            },
            name: note,
            labels: BTreeMap::new(),
            ttl_secs: None,
            uses: None,
            relabel: None,
        };
        let intake = self.intake.clone();
        Box::pin(async move {
            let minted = intake.mint(request).await.map_err(|denial| denial.to_string())?;
            Ok(Minted {
                token: minted.token,
                expires_at: minted.expires_ms.map(Timestamp::from_millis),
            })
        })
    }

    fn tokens(&self) -> Vec<TokenView> {
        let now = self.clock.wall();
        let good = |token: &Arc<Token>| {
            !token.revoked
                && token.expires_at.is_none_or(|end| end > now)
                && token.uses_left != Some(0)
        };
        let mut tokens: Vec<_> = self.registry.tokens().into_iter().filter(good).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.created_at));
        let instances = self.registry.instances();
        tokens.iter().map(|token| view(token, &instances)).collect()
    }
}

fn view(token: &Token, instances: &[Arc<Instance>]) -> TokenView {
    let came_by = |source: &Source| match source {
        Source::Enrolled(by) => *by == Some(token.id),
        Source::Relay(namespace) => namespace.relay == Some(token.id),
    };
    TokenView {
        kind: match token.kind {
            TokenKind::Join => views::TokenKind::Join,
            TokenKind::Relay => views::TokenKind::Relay,
        },
        note: token.name.clone(),
        minted_at: token.created_at,
        expires_at: token.expires_at,
        used: instances.iter().filter(|instance| came_by(&instance.source)).count() as u64,
    }
}
