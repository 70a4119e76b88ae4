//! in-toto statements (v1) with SLSA provenance (v1): making them, and reading what is checked of them.

use super::{Digests, Made, path, uri};
use crate::base::time::rfc3339;
use serde_json::{Map, Value, json};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";
/// A command that was run under watch, with all that it read.
const BUILD_TYPE: &str = "urn:rfs:build:1";

/// The provenance of a file, by the builder of this URI.
#[must_use]
pub fn provenance(made: &Made, builder: &str) -> Value {
    let files = made.inputs.iter().map(|input| {
        let mut one = json!({"uri": uri(&input.path), "digest": digest(&input.digests)});
        if let Some(package) = input.package.and_then(|at| made.packages.get(at)) {
            one["annotations"] = json!({"package": package.purl()});
        }
        one
    });
    let packages = made.packages.iter().map(|package| {
        json!({"uri": package.purl(), "name": package.name, "annotations": {"version": package.version}})
    });
    let between = made
        .between
        .iter()
        .map(|input| json!({"uri": uri(&input.path), "digest": digest(&input.digests)}));
    let steps = made.steps.iter();
    let steps = steps.map(|step| json!({"argv": step.argv, "cwd": step.cwd}));
    let predicate = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"command": made.command},
            "internalParameters": {
                "tracer": made.tracer.1,
                "steps": steps.collect::<Vec<_>>(),
            },
            "resolvedDependencies": files.chain(packages).collect::<Vec<_>>(),
        },
        "runDetails": {
            "builder": {"id": builder, "version": {"rfs": made.tracer.0}},
            "metadata": {
                "invocationId": format!("run {} on {}", made.run, made.host),
                "startedOn": rfc3339(made.began),
                "finishedOn": rfc3339(made.ended),
            },
            "byproducts": between.collect::<Vec<_>>(),
        },
    });
    statement(made, PROVENANCE, predicate)
}

/// The statement that an SPDX document is about a file.
#[must_use]
pub fn bill(made: &Made, document: Value) -> Value {
    statement(made, SPDX, document)
}

fn statement(made: &Made, kind: &str, predicate: Value) -> Value {
    json!({
        "_type": STATEMENT,
        "subject": [{"name": made.name, "digest": digest(&made.digests)}],
        "predicateType": kind,
        "predicate": predicate,
    })
}

fn digest(digests: &Digests) -> Value {
    let mut set = Map::new();
    if let Some(digest) = digests.sha256 {
        set.insert("sha256".to_owned(), digest.to_string().into());
    }
    if let Some(digest) = digests.blake3 {
        set.insert("blake3".to_owned(), digest.hex().into());
    }
    Value::Object(set)
}

/// What is checked of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The path of the file, in the workspace.
    pub name: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// What is stated of it.
    pub kind: String,
    /// Paths of the inputs with their BLAKE3, in hexadecimal digits.
    pub inputs: Vec<(Vec<u8>, String)>,
}

/// Reads a statement about one file.
///
/// # Errors
/// It is none, or one about something else: why.
pub fn read(payload: &[u8]) -> Result<Claim, String> {
    let statement: Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if statement["_type"] != STATEMENT {
        return Err("it is no in-toto statement of version 1".to_owned());
    }
    let Some([subject]) = statement["subject"].as_array().map(Vec::as_slice) else {
        return Err("it is not about one file".to_owned());
    };
    let kind = text(&statement["predicateType"]).unwrap_or_default();
    if kind != PROVENANCE && kind != SPDX {
        return Err(format!(
            "it states something that is not known here: {kind:?}"
        ));
    }
    let deps = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    let deps = deps.as_array().into_iter().flatten();
    let inputs = deps.filter_map(|dep| {
        let path = path(dep["uri"].as_str()?)?;
        Some((path, text(&dep["digest"]["blake3"])?))
    });
    Ok(Claim {
        name: text(&subject["name"]).ok_or("its file has no name")?,
        sha256: text(&subject["digest"]["sha256"]).ok_or("its file has no SHA-256")?,
        kind,
        inputs: inputs.collect(),
    })
}
