//! Sessions: who is signed in, and the one-time tokens that let them in.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rrd::hex::Hex;
use subtle::ConstantTimeEq;

/// A browser left alone for this long is signed out.
pub const IDLE: Duration = Duration::from_hours(12);
/// However busy it is, a session ends after this long.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);
/// One-time tokens nobody used are void after this long.
pub const TOKEN_LIFE: Duration = Duration::from_hours(24);
/// Browsers signed in at once; the one idle for longest gives way.
pub const MOST_SESSIONS: usize = 256;
/// One-time tokens outstanding at once; the oldest gives way.
pub const MOST_TOKENS: usize = 8;

/// 192 random bits: beyond guessing, and 48 digits still fit a terminal's line.
const SECRET_BYTES: usize = 24;

/// Who is signed in. Kept in memory: a restart signs everyone out and prints a new link.
#[derive(Debug)]
pub struct Sessions {
    secure: bool,
    cookie: String,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    sessions: HashMap<String, Times>,
    tokens: Vec<(String, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    begun: Duration,
    used: Duration,
}

impl Sessions {
    /// No session yet. `secure` says that browsers reach us by TLS; `port` keeps the cookies of two
    /// servers on one host apart, since browsers do not.
    pub fn new(secure: bool, port: u16) -> Self {
        let prefix = if secure { "__Host-" } else { "" };
        let cookie = format!("{prefix}roundel-{port}");
        Self { secure, cookie, inside: Mutex::default() }
    }

    /// A new one-time token, for the link that the program prints. Errors when the system has no
    /// randomness. `now` is monotonic time, here and below.
    pub fn issue_token(&self, now: Duration) -> std::io::Result<String> {
        let token = secret()?;
        let mut inside = self.lock();
        if inside.tokens.len() >= MOST_TOKENS {
            inside.tokens.remove(0);
        }
        inside.tokens.push((token.clone(), now));
        Ok(token)
    }

    /// Uses up a one-time token: true when it was good.
    pub fn redeem(&self, token: &str, now: Duration) -> bool {
        let mut inside = self.lock();
        inside.tokens.retain(|(_, issued)| now.saturating_sub(*issued) < TOKEN_LIFE);
        let found = inside.tokens.iter().position(|(good, _)| same(good, token));
        found.map(|at| inside.tokens.remove(at)).is_some()
    }

    /// Begins a session: the value of the `Set-Cookie` header.
    pub fn begin(&self, now: Duration) -> std::io::Result<String> {
        let id = secret()?;
        let mut inside = self.lock();
        inside.sessions.retain(|_, times| times.live(now));
        if inside.sessions.len() >= MOST_SESSIONS {
            let stalest = inside.sessions.iter().min_by_key(|(_, times)| times.used);
            if let Some(id) = stalest.map(|(id, _)| id.clone()) {
                inside.sessions.remove(&id);
            }
        }
        let header = self.header(&id, LONGEST.as_secs());
        inside.sessions.insert(id, Times { begun: now, used: now });
        Ok(header)
    }

    /// True when one of the cookies is a live session; it counts as used.
    pub fn knows(&self, cookies: &str, now: Duration) -> bool {
        let mut inside = self.lock();
        let live =
            self.ids(cookies).find(|id| inside.sessions.get(*id).is_some_and(|t| t.live(now)));
        if let Some(times) = live.and_then(|id| inside.sessions.get_mut(id)) {
            times.used = now;
            return true;
        }
        false
    }

    /// Ends the session of these cookies: the `Set-Cookie` header that deletes the cookie.
    pub fn end(&self, cookies: &str) -> String {
        let mut inside = self.lock();
        for id in self.ids(cookies) {
            inside.sessions.remove(id);
        }
        self.header("", 0)
    }

    fn header(&self, id: &str, max_age_secs: u64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!(
            "{}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_secs}{secure}",
            self.cookie
        )
    }

    fn ids<'a>(&'a self, cookies: &'a str) -> impl Iterator<Item = &'a str> {
        cookie(cookies, &self.cookie)
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // The map is whole after every statement, so a panic elsewhere left it usable.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    fn live(&self, now: Duration) -> bool {
        now.saturating_sub(self.used) < IDLE && now.saturating_sub(self.begun) < LONGEST
    }
}

/// The values of the cookies called `name`.
pub(crate) fn cookie<'a>(header: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    header
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(this, _)| *this == name)
        .map(|(_, value)| value)
}

/// True when both are the same, in time that does not tell where they differ.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn secret() -> std::io::Result<String> {
    let mut bytes = [0_u8; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(Hex(&bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn pair(header: &str) -> &str {
        header.split(';').next().unwrap()
    }

    #[test]
    fn a_token_is_good_once() {
        let sessions = Sessions::new(false, 4270);
        let token = sessions.issue_token(START).unwrap();
        assert!(!sessions.redeem("", START) && !sessions.redeem("guess", START));
        assert!(sessions.redeem(&token, START));
        assert!(!sessions.redeem(&token, START));
    }

    #[test]
    fn an_old_token_is_void() {
        let sessions = Sessions::new(false, 4270);
        let token = sessions.issue_token(START).unwrap();
        assert!(!sessions.redeem(&token, START + TOKEN_LIFE));
    }

    #[test]
    fn a_session_ends_when_idle_and_at_the_latest_after_its_longest() {
        let sessions = Sessions::new(false, 4270);
        let header = sessions.begin(START).unwrap();
        let cookies = format!("other=1; {}", pair(&header));
        let mut now = START;
        while now + IDLE / 2 < START + LONGEST {
            now += IDLE / 2;
            assert!(sessions.knows(&cookies, now), "used every {:?}", IDLE / 2);
        }
        assert!(!sessions.knows(&cookies, START + LONGEST));

        let idle = sessions.begin(START).unwrap();
        assert!(!sessions.knows(pair(&idle), START + IDLE));
    }

    #[test]
    fn an_ended_session_is_unknown() {
        let sessions = Sessions::new(false, 4270);
        let header = sessions.begin(START).unwrap();
        assert!(sessions.end(pair(&header)).contains("Max-Age=0"));
        assert!(!sessions.knows(pair(&header), START));
    }

    #[test]
    fn the_map_is_bounded_and_the_stalest_gives_way() {
        let sessions = Sessions::new(false, 4270);
        let first = sessions.begin(START).unwrap();
        let second = sessions.begin(START + Duration::from_secs(1)).unwrap();
        for n in 2..=MOST_SESSIONS as u64 {
            sessions.begin(START + Duration::from_secs(n)).unwrap();
        }
        let now = START + Duration::from_secs(MOST_SESSIONS as u64);
        assert!(!sessions.knows(pair(&first), now));
        assert!(sessions.knows(pair(&second), now));
    }

    #[test]
    fn cookies_are_strict_and_bound_to_the_host_under_tls() {
        let plain = Sessions::new(false, 4270).begin(START).unwrap();
        assert!(plain.starts_with("roundel-4270=") && plain.contains("HttpOnly; SameSite=Strict"));
        let tls = Sessions::new(true, 443).begin(START).unwrap();
        assert!(tls.starts_with("__Host-roundel-443=") && tls.ends_with("; Secure"));
    }
}
