//! All between a stored row and a person or an autoscaler: rules, judgement, outbox, mail, webhooks.
