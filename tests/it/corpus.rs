//! Chat templates from the fuzzer's corpus: whatever they do, `config check` ends.

use std::path::Path;

use crate::support::config::Folder;
use crate::support::program;

#[test]
fn chat_templates_found_by_the_fuzzer_do_not_break_config_check() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/template");
    let folder = Folder::new("corpus", "");
    let mut count = 0;
    for template in std::fs::read_dir(templates).unwrap() {
        let template = template.unwrap().path();
        let text = format!(
            "[models.a]\npath = 'crab.gguf'\nchat_template = '${{file:{}}}'\n",
            template.display()
        );
        folder.write("llama-mcp-server.toml", &text);
        let checked = program()
            .args(["config", "check"])
            .arg(folder.0.join("llama-mcp-server.toml"))
            .output()
            .unwrap();
        assert!(
            matches!(checked.status.code(), Some(0 | 2)),
            "{}: {checked:?}",
            template.display()
        );
        count += 1;
    }
    assert!(count >= 10, "there is no corpus");
}
