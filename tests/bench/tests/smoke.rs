//! The whole benchmark, small: every case runs, and what it says can be read.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_quick_run_measures_every_case() {
    measure(&[], 25);
}

#[test]
#[ignore = "fetches and starts a CQL database and NATS, which takes a while"]
fn a_quick_run_measures_every_case_of_the_distributed_form() {
    measure(&["--distributed"], 18);
}

/// Runs it, and looks for more than so many figures.
fn measure(options: &[&str], few: usize) {
    let output = tempfile::tempdir().expect("a temporary directory");
    let run = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(options)
        .args(["--quick", "--server"])
        .arg(e2e::standalone())
        .arg("--output")
        .arg(output.path())
        .output()
        .expect("the benchmark can be executed");
    let (shown, said) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{shown}\n{said}");

    let left: Vec<std::path::PathBuf> = std::fs::read_dir(output.path())
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .expect("its directory can be read");
    let [json] = left.as_slice() else { panic!("the figures, and nothing beside them: {left:?}") };
    let whole: Value =
        serde_json::from_slice(&std::fs::read(json).expect("the figures can be read")).expect("they are JSON");
    let figures = whole["figures"].as_array().expect("a list");
    assert!(figures.len() > few, "{shown}");
    for figure in figures {
        let name = figure["name"].as_str().expect("a name");
        assert!(figure["measured"]["median"].as_f64().is_some_and(f64::is_finite), "{figure}");
        assert!(shown.contains(name), "{name} is in the table:\n{shown}");
        if figure["goal"].get("ratio_at_most").is_some() || figure["goal"].get("ratio_at_least").is_some() {
            assert!(figure["yardstick"]["median"].as_f64().is_some_and(f64::is_finite), "{figure}");
        }
    }
}
