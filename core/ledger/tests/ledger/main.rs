//! Tests of the ledger through its public interface: one file per topic, one world for all.

mod rounds;
mod world;

mod adversaries;
mod appeals;
mod audits;
mod audits_pay;
mod bank;
mod blocks;
mod canaries;
mod channels;
mod credits;
mod demands;
mod differential;
mod economics;
mod fees;
mod gateways;
mod genesis;
mod oracle;
mod planted;
mod policies;
mod providers;
mod rewards;
mod settlement;
mod slashing;
mod staking;

mod auditor;
mod auditors;
mod simulation;
