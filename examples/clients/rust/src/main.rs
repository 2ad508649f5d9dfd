//! Calls the first tool of a server, and shows its progress.
//!
//! ```text
//! client QUESTION COMMAND [ARGUMENT…]        starts a server and talks to it over stdio
//! client QUESTION http://127.0.0.1:8080/mcp  connects to a running server; LLAMA_MCP_AUTH is the token
//! ```

use std::error::Error;
use std::process::ExitCode;

use rmcp::model::{CallToolRequestParams, ProgressNotificationParam};
use rmcp::service::NotificationContext;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, RoleClient, ServiceExt};

struct Asking;

impl ClientHandler for Asking {
    async fn on_progress(
        &self,
        news: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let message = news.message.unwrap_or_default();
        let line = message.lines().last().unwrap_or_default();
        eprintln!("{:6.1} s  {line}", news.progress);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(question), Some(server)) = (words.next(), words.next()) else {
        return Err("usage: client QUESTION URL | QUESTION COMMAND [ARGUMENT…]".into());
    };
    let client = if server.starts_with("http") {
        let token = std::env::var("LLAMA_MCP_AUTH").unwrap_or_default();
        let config = StreamableHttpClientTransportConfig::with_uri(server).auth_header(token);
        Asking
            .serve(StreamableHttpClientTransport::from_config(config))
            .await?
    } else {
        let mut command = tokio::process::Command::new(server);
        command.args(words);
        Asking.serve(TokioChildProcess::new(command)?).await?
    };
    let tools = client.list_all_tools().await?;
    let tool = tools.into_iter().next().ok_or("the server has no tools")?;
    let arguments = serde_json::json!({ "text": question }).as_object().cloned();
    let call = CallToolRequestParams::new(tool.name).with_arguments(arguments.unwrap_or_default());
    let result = client.call_tool(call).await?;
    for part in &result.content {
        println!("{}", part.as_text().map_or("", |text| &text.text));
    }
    client.cancel().await?;
    Ok(ExitCode::from(u8::from(result.is_error == Some(true))))
}
