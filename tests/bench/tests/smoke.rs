//! The whole benchmark, small: every case runs, and what it says can be read.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_quick_run_measures_every_case() {
    let output = tempfile::tempdir().unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--quick", "--server"])
        .arg(e2e::standalone())
        .arg("--output")
        .arg(output.path())
        .output()
        .unwrap();
    let (shown, said) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{shown}\n{said}");

    let left: Vec<_> = std::fs::read_dir(output.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [json] = left.as_slice() else { panic!("the figures, and nothing beside them: {left:?}") };
    let whole: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let figures = whole["figures"].as_array().unwrap();
    assert!(figures.len() > 25, "{shown}");
    for figure in figures {
        let name = figure["name"].as_str().unwrap();
        assert!(figure["measured"]["median"].as_f64().is_some_and(f64::is_finite), "{figure}");
        assert!(shown.contains(name), "{name} is in the table:\n{shown}");
        if figure["goal"].get("ratio_at_most").is_some() || figure["goal"].get("ratio_at_least").is_some() {
            assert!(figure["yardstick"]["median"].as_f64().is_some_and(f64::is_finite), "{figure}");
        }
    }
}
