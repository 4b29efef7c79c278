//! A callback's JSON, as QStash would send it.

use http::{HeaderMap, HeaderName};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{attempt::Attempt, body};

impl Serialize for Attempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("header", &Headers(&self.headers))?;
        map.serialize_entry("body", &body::encode(&self.body))?;
        map.serialize_entry("retried", &self.retried)?;
        map.serialize_entry("maxRetries", &self.max_retries)?;
        let strings = [
            ("dlqId", &self.dlq_id),
            ("topicName", &self.url_group),
            ("endpointName", &self.endpoint_name),
            ("scheduleId", &self.schedule_id),
            ("method", &self.method),
            ("callerIP", &self.caller_ip),
            ("workflowRunId", &self.workflow_run_id),
        ];
        for (name, value) in strings {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        map.serialize_entry("sourceMessageId", &self.source_message_id)?;
        map.serialize_entry("url", &self.url)?;
        map.serialize_entry("sourceHeader", &Headers(&self.source_headers))?;
        map.serialize_entry("sourceBody", &body::encode(&self.source_body))?;
        let times = [
            ("notBefore", self.not_before),
            ("createdAt", self.created_at),
            ("workflowCreatedAt", self.workflow_created_at),
        ];
        for (name, millis) in times {
            if let Some(millis) = millis {
                map.serialize_entry(name, &millis)?;
            }
        }
        map.end()
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.keys_len()))?;
        for name in self.0.keys() {
            map.serialize_entry(name.as_str(), &Values(self.0, name))?;
        }
        map.end()
    }
}

struct Values<'a>(&'a HeaderMap, &'a HeaderName);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut values = serializer.serialize_seq(None)?;
        for value in self.0.get_all(self.1) {
            values.serialize_element(&String::from_utf8_lossy(value.as_bytes()))?;
        }
        values.end()
    }
}
