//! Kafka for tests: a broker that is one ([`broker`]), a producer as DMS has it ([`producer`]), a stand-in for Lambda's event source
//! mapping ([`poller`], a program of its own, so that it can be killed as a process is), and Lambda's Invoke API for it ([`invoke`]).

pub mod broker;
pub mod invoke;
pub mod poller;
pub mod producer;
