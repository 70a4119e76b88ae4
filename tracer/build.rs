//! Makes the preload library, a shared object without the C library's start-up, to be put into the tracer.
//!
//! Cargo cannot give one member of a workspace a panic strategy and linker arguments of its own, so the
//! compiler is called directly; the sources are those of the crate `rfs-preload`. Where that fails (no
//! shared objects for the target), there is no library, and everything goes the slow way.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script is told by its environment, and writes for cargo"
)]

use std::env::var_os;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=preload/src");
    println!("cargo::rerun-if-changed=build.rs");
    let var = |name: &str| var_os(name).ok_or(format!("{name} is not set"));
    let library = PathBuf::from(var("OUT_DIR")?).join("preload.so");
    let mut rustc = Command::new(var("RUSTC")?);
    rustc
        .args([
            "preload/src/lib.rs",
            "--edition=2024",
            "--crate-type=cdylib",
        ])
        .args(["--crate-name=rfs_preload", "--cfg=rfs_preload"])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Cstrip=symbols"])
        .args(["-Crelro-level=off", "-Ctarget-feature=-crt-static"])
        // The compiled core names the personality of unwinding, which nothing here does.
        .args(
            [
                "-nostdlib",
                "-nostartfiles",
                "-Wl,--defsym=rust_eh_personality=0",
            ]
            .map(link),
        )
        .args(["-Wl,-z,noseparate-code", "-Wl,--hash-style=gnu"].map(link))
        .arg("--target")
        .arg(var("TARGET")?)
        .arg("-o")
        .arg(&library);
    if let Some(linker) = var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg({
            let mut set = std::ffi::OsString::from("linker=");
            set.push(linker);
            set
        });
    }
    let made = rustc.output()?;
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr);
        let why = why.lines().find(|line| line.starts_with("error"));
        let why = why.unwrap_or("rustc failed");
        println!("cargo::warning=no preload library, builds will be traced more slowly: {why}");
        fs::write(&library, "")?;
    }
    Ok(())
}

fn link(argument: &str) -> String {
    format!("-Clink-arg={argument}")
}
