//! Tests that need more than one module: timelines, replay, delivery, mail, webhooks.

mod config;
mod delivery;
mod mail;
mod replay;
mod smtp;
mod starter;
mod timeline;
mod webhook;
mod world;
