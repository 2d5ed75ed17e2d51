//! The API's own description (OpenAPI 3.1). A test holds it against the router and the types.

use serde_json::{Value, json};

/// `GET /openapi.json`.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Canopus telematics unit, local API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP over a Unix socket; whoever may open the socket may use it. \
                            Over TCP in TLS, with a client certificate.",
        },
        "paths": {
            "/v1/status": { "get": read("What the service is doing", "Status") },
            "/v1/events": { "get": {
                "summary": "The status, then each event as it happens (server-sent events): \
                            `status` with a Status, `progress` with an event of `tcu --json`",
                "responses": { "200": { "description": "A stream", "content": {
                    "text/event-stream": { "schema": { "type": "string" } } } } },
            } },
            "/v1/consent": { "post": said("Consent to the campaign on offer") },
            "/v1/cancel": { "post": said("Decline the campaign on offer, or let the one that is \
                                          being installed go back, unless it is committed") },
            "/v1/postpone": { "post": said("Be asked again after `seconds`") },
            "/v1/give-up": { "post": body("Give up an ECU that sealing or reverting does not reach: \
                                           the campaign under way ends without it", "GivesUp") },
            "/v1/campaign": { "post": {
                "summary": "Bring a bundle; it is verified as anything else",
                "requestBody": { "required": true, "content": {
                    "application/x-tar": { "schema": { "type": "string", "format": "binary" } } } },
                "responses": responses("Reply", &["409", "413", "507"]),
            } },
            "/metrics": { "get": {
                "summary": "Counters in the text format of Prometheus",
                "responses": { "200": { "description": "Text", "content": {
                    "text/plain": { "schema": { "type": "string" } } } } },
            } },
            "/openapi.json": { "get": {
                "summary": "This document",
                "responses": { "200": { "description": "JSON", "content": {
                    "application/json": { "schema": { "type": "object" } } } } },
            } },
        },
        "components": { "schemas": schemas() },
    })
}

fn read(summary: &str, schema: &str) -> Value {
    json!({ "summary": summary, "responses": responses(schema, &[]) })
}

fn said(summary: &str) -> Value {
    body(summary, "Said")
}

fn body(summary: &str, schema: &str) -> Value {
    json!({
        "summary": summary,
        "requestBody": { "required": true, "content": { "application/json": {
            "schema": { "$ref": format!("#/components/schemas/{schema}") } } } },
        "responses": responses("Reply", &["409", "507"]),
    })
}

fn responses(schema: &str, problems: &[&str]) -> Value {
    let content = |schema: &str| {
        json!({ "application/json": {
            "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
    };
    let good = json!({ "description": "Done", "content": content(schema) });
    let mut all = serde_json::Map::from_iter([("200".to_owned(), good)]);
    for code in problems {
        let what = match *code {
            "409" => "It makes no sense now",
            "413" => "Too long",
            _ => "It cannot be stored",
        };
        let bad = json!({ "description": what, "content": content("Problem") });
        all.insert((*code).to_owned(), bad);
    }
    all.into()
}

fn object(properties: Value) -> Value {
    json!({ "type": "object", "properties": properties })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let maybe_text = json!({ "type": ["string", "null"] });
    let number = json!({ "type": "integer", "minimum": 0 });
    let flag = json!({ "type": "boolean" });
    let answer = json!({ "type": ["object", "null"], "properties": {
        "who": text, "at": number, "anytime": flag } });
    json!({
        "Status": object(json!({
            "version": text,
            "doing": { "enum": ["starting", "idle", "checking", "waiting", "installing", "paused",
                                "stopping"] },
            "detail": text,
            "campaign": maybe_text,
            "phase": { "enum": ["staging", "activating", "awaiting-healthy", "sealing", "reverting",
                                "done", null] },
            "committed": flag,
            "ecus": { "type": "object", "additionalProperties": object(json!({
                "job": text, "step": text, "done": number, "total": number,
                "failure": maybe_text })) },
            "last_report": { "type": ["object", "null"] },
            "offer": { "type": ["object", "null"], "properties": {
                "campaign": text, "waits_for": maybe_text,
                "mode": { "enum": ["automatic", "ask", "forced"] },
                "postponed": number, "postpone_limit": number,
                "consent": answer, "declined": answer } },
            "preconditions": { "type": ["object", "null"] },
        })),
        "Said": object(json!({
            "campaign": maybe_text, "anytime": flag, "seconds": { "type": ["integer", "null"] } })),
        "GivesUp": { "type": "object", "required": ["ecu", "reason"], "properties": {
            "campaign": maybe_text, "ecu": text, "reason": text } },
        "Reply": object(json!({ "done": text })),
        "Problem": object(json!({ "error": text })),
    })
}
