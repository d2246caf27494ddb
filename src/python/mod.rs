//! The binding to Python, and the only place that names it.
//!
//! Invariant: nothing lives at import, nothing is static (the host process forks); the engine runs on a thread and a
//! runtime of its own, while this thread, with the interpreter released, serves its questions and looks for signals
//! every 50 ms. A panic becomes an error.

use crate::command;
use crate::error::Error;
use crate::outside::{Ask, Message, Outside};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use serde_json::{Value, json};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use tokio::sync::watch;

create_exception!(saltext.migrate._native, MigrateError, PyException, "Why a migration stopped: message, kind, hint.");

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        MigrateError::new_err((error.to_string(), error.kind(), error.hint()))
    }
}

/// Runs one command; see `src/command/mod.rs` for what there is.
///
/// `pillar` and `arguments` are JSON, and so is what is returned. `ask(json) -> json` answers questions to hosts,
/// `tell(json)` shows events, and `interrupted() -> bool` says whether somebody asked for the end. A handler of signals raises
/// nothing: what it came into may take an exception for its own failure, and then nobody hears of the signal.
#[pyfunction]
fn run(
    py: Python<'_>,
    command: &str,
    pillar: &str,
    arguments: &str,
    ask: Py<PyAny>,
    tell: Py<PyAny>,
    interrupted: Py<PyAny>,
) -> PyResult<String> {
    let parse = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|error| Error::Journal(format!("the shim sent no JSON: {error}")))
    };
    let (pillar, arguments, command) = (parse(pillar)?, parse(arguments)?, command.to_owned());
    let (messages, mut received) = channel();
    let (interrupt, noticed) = watch::channel(None);
    let engine = std::thread::spawn(move || {
        let outside = Outside::new(messages, noticed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(command::run(&command, &pillar, &arguments, &outside)),
            Err(error) => Err(Error::remote("controller", error)),
        }
    });
    loop {
        // The receiver goes with the closure and comes back, for only one thread at a time may hold it.
        let (message, back) = py.detach(move || (received.recv_timeout(Duration::from_millis(50)), received));
        received = back;
        match message {
            Ok(Message::Event(event)) => {
                let shown = serde_json::to_string(&event).map(|event| tell.call1(py, (event,)));
                if let Ok(Err(error)) = shown {
                    log::warn!("showing progress failed: {error}");
                }
            }
            Ok(Message::Ask(question, reply)) => {
                let _ = reply.send(answer(py, &ask, &question));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // Only here do handlers run, while the interpreter is released.
        if let Err(error) = py.check_signals() {
            log::warn!("a handler of signals failed: {error}");
        }
        if interrupt.borrow().is_none() && interrupted.call0(py)?.extract(py)? {
            let _ = interrupt.send(Some("a signal asked for the end".into()));
        }
    }
    let result = py.detach(|| engine.join()).map_err(|panic| Error::Defect(words(panic.as_ref())))?;
    Ok(result?.to_string())
}

/// Puts a question to Python.
fn answer(py: Python<'_>, ask: &Py<PyAny>, question: &Ask) -> Result<Value, String> {
    let question = serde_json::to_string(question).map_err(|error| error.to_string())?;
    let answer = ask.call1(py, (question,)).and_then(|answer| answer.extract::<String>(py));
    serde_json::from_str(&answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| json!("panic").to_string())
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run, module)?)?;
    module.add("MigrateError", module.py().get_type::<MigrateError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
