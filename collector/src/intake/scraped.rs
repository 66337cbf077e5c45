//! Scrapes of targets: what our own scraper fetched enters as the admin token's remote write would.

use std::sync::Arc;

use super::{Denial, Intake};
use crate::foreign::{Origin, Protocol};
use crate::registry::Instance;
use crate::scrape::page::Scrape;

impl Intake {
    /// Stores a scrape; single series are refused and counted as those of a request are.
    ///
    /// Errors when nothing of it was taken, which the books tell; the next scrape is soon.
    pub(crate) async fn store_scrape(&self, scrape: Scrape) -> Result<(), Denial> {
        let origin = Origin { protocol: Protocol::Scrape, relay: None };
        let scrape = Arc::new(scrape);
        let stored = self.try_scrape(origin, scrape.clone()).await;
        if let Err(denial) = &stored {
            // Nobody sends it again.
            self.0.book_refused(origin, denial.reason(), scrape.sample_count());
        }
        stored
    }

    async fn try_scrape(&self, origin: Origin, scrape: Arc<Scrape>) -> Result<(), Denial> {
        let inner = &self.0;
        // Its bytes count among those of requests: the door is one.
        let held = inner.room.take(scrape.byte_count()).await?;
        let taken = inner
            .store(origin, held, move |_, _, mut sorter| {
                scrape.sort(&mut sorter);
                Ok(sorter.sorted)
            })
            .await?;
        for one in taken.refusals.into_shown() {
            tracing::debug!(series = one.series, why = one.message, "a scraped series is refused");
        }
        Ok(())
    }

    /// Every instance of the registry.
    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        self.0.parts.registry.instances()
    }
}
