//! Chance: what happens next, by a seed. It knows who is enrolled, so that every act is one that works.

use fixtures::dice::Dice;

use super::world::Act;

/// Commits after which a round must make room in the small journal.
const MOST_COMMITS: u64 = 30;
/// Beyond this comparing takes longer than doing.
const MOST_AGENTS: u32 = 6;

pub(super) struct Chance {
    dice: Dice,
    active: Vec<(&'static str, u32)>,
    enrolled: u32,
    has_rules: bool,
    commits: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            active: Vec::new(),
            enrolled: 0,
            has_rules: false,
            commits: 0,
        }
    }

    pub(super) fn act(&mut self) -> Act {
        let act = if self.commits > MOST_COMMITS { Act::Round } else { self.any() };
        self.commits = match act {
            Act::Round => 0,
            Act::Silence(secs) => self.commits + secs / 20,
            _ => self.commits + 1,
        };
        act
    }

    fn any(&mut self) -> Act {
        let below = self.dice.below(100);
        if self.active.is_empty() || (below < 4 && self.enrolled < MOST_AGENTS) {
            return self.enroll();
        }
        match below {
            0..6 if !self.has_rules => {
                self.has_rules = true;
                Act::Rules
            }
            0..7 if self.active.len() > 2 => {
                let gone = self.dice.index(self.active.len());
                Act::Withdraw(self.active.swap_remove(gone).0)
            }
            0..12 => Act::Deliver,
            12..18 => Act::Silence(20 * self.dice.below(12)),
            18..32 => Act::Round,
            _ => self.push(),
        }
    }

    fn enroll(&mut self) -> Act {
        const NAMES: [&str; 6] = ["web", "db", "cache", "queue", "mail", "edge"];
        let turn = self.enrolled as usize;
        self.enrolled += 1;
        // A test's few names live as long as the test.
        let name = NAMES[turn % NAMES.len()];
        let name = if turn < NAMES.len() { name } else { format!("{name}{turn}").leak() };
        self.active.push((name, 1));
        Act::Enroll(name)
    }

    /// A push of as many series as ever, and now and then of some new ones.
    fn push(&mut self) -> Act {
        let whose = self.dice.index(self.active.len());
        let (name, series) = &mut self.active[whose];
        if self.dice.once_in(4) && *series < 30 {
            *series += 1 + u32::try_from(self.dice.below(9)).unwrap();
        }
        let value = f64::from(u32::try_from(self.dice.below(14)).unwrap());
        Act::Push(name, *series, value)
    }
}
