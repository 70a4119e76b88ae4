//! Bills of materials: SPDX 2.3 documents. Files are packages of purpose FILE or SOURCE, for files proper would want
//! a SHA-1.

use super::{Digests, Made, uri};
use crate::base::time::rfc3339;
use serde_json::{Value, json};

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const SUBJECT: &str = "SPDXRef-Made";

/// The document of a file, made at a time (seconds since 1970).
#[must_use]
pub fn document(made: &Made, now: i64) -> Value {
    let mut packages = vec![file(SUBJECT, &made.name, "FILE", &made.digests)];
    let mut relations = vec![relation(DOCUMENT, "DESCRIBES", SUBJECT)];
    for (at, input) in made.inputs.iter().enumerate() {
        // What a package owns is told by the package.
        if input.package.is_none() {
            let id = format!("SPDXRef-File-{at}");
            packages.push(file(&id, &input.path, "SOURCE", &input.digests));
            relations.push(relation(SUBJECT, "GENERATED_FROM", &id));
        }
    }
    for (at, package) in made.packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{at}");
        packages.push(json!({
            "SPDXID": id,
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package.purl(),
            }],
        }));
        relations.push(relation(&id, "BUILD_DEPENDENCY_OF", SUBJECT));
    }
    let digest = made.digests.sha256.unwrap_or_default();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": made.name,
        "documentNamespace": format!("urn:rfs:spdx:{digest}:{}:{now}", made.run),
        "creationInfo": {
            "created": rfc3339(now),
            "creators": [format!("Tool: rfs-{}", made.tracer.0)],
            "comment": format!("From the trace of: {}", made.command),
        },
        "packages": packages,
        "relationships": relations,
    })
}

fn file(id: &str, name: &str, purpose: &str, digests: &Digests) -> Value {
    let mut sums = Vec::new();
    if let Some(digest) = digests.sha256 {
        sums.push(json!({"algorithm": "SHA256", "checksumValue": digest.to_string()}));
    }
    // The validator of the SPDX project wants a BLAKE3 of 256 digits, which nobody has.
    let mut comment = uri(name);
    if let Some(digest) = digests.blake3 {
        comment.push_str(&format!(" blake3:{}", digest.hex()));
    }
    json!({
        "SPDXID": id,
        "name": name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": purpose,
        "checksums": sums,
        "comment": comment,
    })
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}
