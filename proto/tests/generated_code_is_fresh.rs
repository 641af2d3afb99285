//! `src/gen/` is what the `.proto` files say.
//!
//! `REGENERATE=1 cargo test -p proto --test generated_code_is_fresh` writes it anew; without the variable the test
//! fails when it is stale. The compiler is pure Rust, so no `protoc` is needed.

use std::path::{Path, PathBuf};

const FILES: [&str; 6] = [
    "chat/v1/common.proto",
    "chat/v1/identity.proto",
    "chat/v1/conversation.proto",
    "chat/v1/messaging.proto",
    "chat/v1/presence.proto",
    "chat/v1/event.proto",
];

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch of a maintenance command, not configuration")]
fn generated_code_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let regenerate = std::env::var_os("REGENERATE").is_some();
    let scratch = tempfile::tempdir().unwrap();
    let out: PathBuf = if regenerate { committed.clone() } else { scratch.path().to_owned() };
    std::fs::create_dir_all(&out).unwrap();

    let mut compiler = protox::Compiler::new([root]).unwrap();
    compiler.include_source_info(true).include_imports(true).open_files(FILES).unwrap();
    // Reflection needs no comments; the generated code takes its documentation from them.
    let descriptors = compiler.file_descriptor_set();
    std::fs::write(out.join("chat.v1.bin"), compiler.include_source_info(false).encode_file_descriptor_set()).unwrap();
    tonic_prost_build::configure()
        .out_dir(&out)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .unwrap();

    for name in ["chat.v1.rs", "chat.v1.bin"] {
        let fresh = std::fs::read(out.join(name)).unwrap();
        let kept = std::fs::read(committed.join(name)).unwrap_or_default();
        assert!(
            fresh == kept,
            "src/gen/{name} is stale: run `REGENERATE=1 cargo test -p proto --test generated_code_is_fresh`"
        );
    }
}
