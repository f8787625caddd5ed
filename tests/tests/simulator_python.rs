//! The official Python client, unmodified, against the simulator.
//!
//! `BELLHOP_PYTHON` names an interpreter that can import `slack_sdk`; without one the test is skipped and says so.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_python_client_works_unmodified() {
    let named = std::env::var_os("BELLHOP_PYTHON");
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let import = Command::new(&python)
        .args(["-c", "import slack_sdk"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    if !import.is_ok_and(|status| status.success()) {
        assert!(named.is_none(), "BELLHOP_PYTHON is set and cannot import slack_sdk");
        println!("skipped: no Python with slack_sdk (set BELLHOP_PYTHON)");
        return;
    }
    let options = bellhop_simulator::Options { budget_scale: 10.0, ..bellhop_simulator::Options::default() };
    let running = bellhop_simulator::start(options).await.expect("the simulator starts on a free port");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/conformance.py");
    let done = Command::new(&python)
        .arg(script)
        .arg(format!("http://{}", running.address))
        .output()
        .await
        .expect("the interpreter runs, as it just did");
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    println!("{told}{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "the client and the simulator disagree");
    assert!(told.matches("ok      ").count() > 80, "fewer checks than the script has");
    assert!(running.ledger().len() > 50, "the ledger has what the client changed");
    running.stop().await;
}
