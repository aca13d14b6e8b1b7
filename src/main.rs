//! The process: arguments, the log, the clock, one function per command, the exit code.

use std::{env, process::ExitCode, time::SystemTime};

use masque_relay::cli::{
    Arguments, CheckArguments, Command, ServeArguments, cert, check, doctor, explain, faults, probe, profile,
    report::{Failure, say},
    serve, sessions,
};

fn main() -> ExitCode {
    match run(&Arguments::from_command_line()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                say(&failure);
            }
            failure.exit_code()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Serve(arguments) => serve(arguments),
        Command::Check(arguments) => check(arguments),
        Command::Cert(command) => cert(command),
        Command::Profile(command) => profile(command),
        Command::Probe(arguments) => probe(arguments),
        Command::Doctor(arguments) => doctor::run(arguments, now()),
        Command::Sessions(arguments) => sessions::run(arguments),
        Command::Fault(arguments) => faults::switch(arguments),
        Command::Explain(arguments) => explain::run(arguments),
    }
}

fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    arguments.log.install()?;
    let program = env::args().next().unwrap_or_else(|| "masque-relay".into());
    serve::run(arguments, &program, now())
}

fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    check::run(arguments, now())
}

fn cert(command: &cert::CertCommand) -> Result<(), Failure> {
    cert::run(command, now())
}

fn profile(command: &profile::ProfileCommand) -> Result<(), Failure> {
    profile::run(command, now())
}

fn probe(arguments: &probe::ProbeArguments) -> Result<(), Failure> {
    probe::run(arguments)
}

/// The clock is read here and nowhere else: what depends on it can be tested.
#[expect(clippy::disallowed_methods, reason = "the edge at which time comes in")]
fn now() -> SystemTime {
    SystemTime::now()
}
