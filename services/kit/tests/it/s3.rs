//! A real S3 server process: moto's, installed by `cargo xtask setup` under `target/tools/s3`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use spool_kit::store::{S3, Secret, StoreConfig};

/// The server may take this long to say its port: Python on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A server with one bucket; ends when it is dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    endpoint: String,
}

fn binary() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).unwrap();
    let binary = root.join("target/tools/s3/bin/moto_server");
    assert!(binary.exists(), "the S3 test server is missing at {}; run `cargo xtask setup`", binary.display());
    binary
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(binary())
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, told) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        // Reads to the end, so that the server never waits for a full pipe; ends with the server.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("Running on ") {
                    let _unheard_after_the_first = tell.send(address.trim().to_owned());
                }
            }
        });
        let endpoint = told.recv_timeout(READY_LIMIT).expect("moto_server says where it listens");
        Self { child, endpoint }
    }

    /// The configuration of a fresh bucket.
    pub(crate) async fn bucket(&self, name: &str) -> StoreConfig {
        let stream = tokio::net::TcpStream::connect(self.endpoint.trim_start_matches("http://")).await.unwrap();
        let request =
            format!("PUT /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let mut stream = stream;
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
        StoreConfig::S3(S3 {
            bucket: name.to_owned(),
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".to_owned(),
            access_key_id: "test".to_owned(),
            secret_access_key: Secret("test".to_owned()),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
