//! Tests of the ledger through its public interface: one file per topic, one world for all.

mod world;

mod bank;
mod blocks;
mod channels;
mod credits;
mod economics;
mod fees;
mod gateways;
mod genesis;
mod price;
mod providers;
mod rewards;
mod settlement;

mod auditor;
mod simulation;
