//! The events that AWS sends to a Lambda function for an HTTP request, with the fields that
//! `lambda_http` reads.

use serde_json::{Map, Value, json};

/// An HTTP request, from which the events are built.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub(crate) domain: &'a str,
    pub(crate) stage: &'a str,
    /// The path in the event.
    pub(crate) path: &'a str,
    /// The path in a REST API's request context, as the caller sent it.
    pub(crate) context_path: &'a str,
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) signature: Option<&'a str>,
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) base64: bool,
}

impl Call<'_> {
    /// Creates a `POST` of `Hello` to `/hook` at `domain`, in the default stage.
    pub(crate) fn to(domain: &str) -> Call<'_> {
        Call {
            domain,
            stage: "$default",
            path: "/hook",
            context_path: "/hook",
            query: &[],
            signature: None,
            body: Some(b"Hello"),
            base64: false,
        }
    }

    /// Returns the event of an API Gateway HTTP API, payload format 2.0.
    pub(crate) fn http_api(&self) -> Value {
        let raw_query: Vec<_> =
            self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": self.path,
            "rawQueryString": raw_query.join("&"),
            "headers": self.headers(),
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "abcdef1234",
                "domainName": self.domain,
                "domainPrefix": self.domain.split('.').next(),
                "http": {
                    "method": "POST",
                    "path": self.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                    "userAgent": "Upstash-QStash",
                },
                "requestId": "JKJaXmPLvHcESHA=",
                "routeKey": "$default",
                "stage": self.stage,
                "time": "12/Mar/2024:19:03:58 +0000",
                "timeEpoch": 1_710_270_238_390_i64,
            },
            "body": self.text(),
            "isBase64Encoded": self.base64,
        })
    }

    /// Returns the event of a function URL: that of an HTTP API with lower-case header names, and
    /// its own account and API ids.
    pub(crate) fn function_url(&self) -> Value {
        let mut event = self.http_api();
        event["headers"] = self
            .headers()
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect::<Map<_, _>>()
            .into();
        event["cookies"] = json!([]);
        let context = &mut event["requestContext"];
        context["accountId"] = "anonymous".into();
        context["apiId"] = context["domainPrefix"].clone();
        context["authentication"] = Value::Null;
        context["authorizer"] = Value::Null;
        event
    }

    /// Returns the event of an API Gateway REST API.
    pub(crate) fn rest_api(&self) -> Value {
        json!({
            "resource": "/{proxy+}",
            "path": self.path,
            "httpMethod": "POST",
            "headers": self.headers(),
            "multiValueHeaders": self.multi_value_headers(),
            "queryStringParameters": self.single(),
            "multiValueQueryStringParameters": self.multiple(),
            "pathParameters": { "proxy": self.path.trim_start_matches('/') },
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "abcdef1234",
                "resourceId": "us4z18",
                "resourcePath": "/{proxy+}",
                "domainName": self.domain,
                "domainPrefix": self.domain.split('.').next(),
                "httpMethod": "POST",
                "path": self.context_path,
                "protocol": "HTTP/1.1",
                "stage": self.stage,
                "identity": { "sourceIp": "192.0.2.1", "userAgent": "Upstash-QStash" },
                "requestId": "41b45ea3-70b5-11e6-b7bd-69b5aaebc7d9",
                "requestTimeEpoch": 1_710_270_238_390_i64,
            },
            "body": self.text(),
            "isBase64Encoded": self.base64,
        })
    }

    /// Returns the event of an Application Load Balancer, which forwards the query still encoded.
    pub(crate) fn alb(&self) -> Value {
        json!({
            "requestContext": { "elb": {
                "targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/hooks/1",
            } },
            "httpMethod": "POST",
            "path": self.path,
            "queryStringParameters": self.single().unwrap_or_default(),
            "headers": self.headers(),
            "body": self.text().unwrap_or_default(),
            "isBase64Encoded": self.base64,
        })
    }

    /// Returns the event of an Application Load Balancer whose target group has multi-value headers
    /// enabled.
    pub(crate) fn alb_multi_value(&self) -> Value {
        let mut event = self.alb();
        let fields = event.as_object_mut().expect("an object");
        fields.remove("headers");
        fields.remove("queryStringParameters");
        event["multiValueHeaders"] = self.multi_value_headers().into();
        event["multiValueQueryStringParameters"] = self.multiple().unwrap_or_default().into();
        event
    }

    fn headers(&self) -> Map<String, Value> {
        let mut headers = Map::new();
        headers.insert("host".into(), self.domain.into());
        headers.insert("x-forwarded-proto".into(), "https".into());
        headers.insert("content-type".into(), "application/octet-stream".into());
        if let Some(signature) = self.signature {
            headers.insert("Upstash-Signature".into(), signature.into());
        }
        headers
    }

    fn multi_value_headers(&self) -> Map<String, Value> {
        self.headers().into_iter().map(|(name, value)| (name, json!([value]))).collect()
    }

    fn single(&self) -> Option<Map<String, Value>> {
        let pairs = self.query.iter().map(|&(name, value)| (name.to_owned(), value.into()));
        (!self.query.is_empty()).then(|| pairs.collect())
    }

    fn multiple(&self) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        for &(name, value) in self.query {
            let values = map.entry(name).or_insert_with(|| json!([]));
            values.as_array_mut().expect("an array").push(value.into());
        }
        (!map.is_empty()).then_some(map)
    }

    fn text(&self) -> Option<String> {
        use base64::{Engine, prelude::BASE64_STANDARD};
        self.body.map(|body| match self.base64 {
            true => BASE64_STANDARD.encode(body),
            false => String::from_utf8(body.to_vec()).expect("a text body"),
        })
    }
}
