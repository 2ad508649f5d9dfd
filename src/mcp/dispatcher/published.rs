//! The tools that clients see: a catalog, and its tools in the form of `tools/list`.

use crate::mcp::caller::Access;
use crate::mcp::jsonrpc::Json;
use crate::mcp::schema::Tool;
use crate::tools::{Catalog, ToolDescription};

/// A catalog with its tools as JSON. The tools are serialised only once, since clients list them often and each chat tool takes 0.1 ms.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) catalog: Catalog,
    /// Each tool of the catalog as JSON, in the order of the descriptions.
    tools: Vec<Json>,
}

impl Published {
    /// Serialises the tools of `catalog`.
    pub(super) fn new(catalog: Catalog) -> Self {
        let tools = catalog.descriptions().iter();
        let tools = tools.map(|tool| Json::new(&Tool::from(tool)));
        Self {
            tools: tools
                .collect::<Result<_, _>>()
                .expect("the keys of a tool are strings"),
            catalog,
        }
    }

    /// Returns descriptions of the tools that `access` allows.
    pub(super) fn visible<'all>(&'all self, access: &Access) -> Vec<&'all ToolDescription> {
        let tools = self.catalog.descriptions().iter();
        tools.filter(|tool| access.allows(&tool.name)).collect()
    }

    /// Returns the tools that `access` allows, as JSON.
    pub(super) fn listed<'all>(&'all self, access: &Access) -> Vec<&'all Json> {
        let tools = self.catalog.descriptions().iter().zip(&self.tools);
        let allowed = tools.filter(|(tool, _)| access.allows(&tool.name));
        allowed.map(|(_, json)| json).collect()
    }
}
