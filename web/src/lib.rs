//! All that a person or a program asks: pages, graphs, JSON API.
