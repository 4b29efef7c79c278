//! The benchmarks of `tower-qstash` are in `benches/`: `cargo bench -p tower-qstash-bench`.
