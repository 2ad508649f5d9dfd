//! The chat templates of the fuzzer's corpus, in the program: whatever they do, the check of the configuration ends.

use std::path::Path;

use crate::support::config::Folder;
use crate::support::program;

#[test]
fn no_chat_template_that_the_fuzzer_found_breaks_the_check_of_a_configuration() {
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
