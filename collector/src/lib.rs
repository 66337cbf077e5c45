//! All that brings a sample in: wire formats, intake, enrolment, the agent.
