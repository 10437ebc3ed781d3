//! nginx from the system's packages as the plain reverse proxy to compare with, set up as well as
//! we know how: one worker, kept-alive connections on both sides, no buffering of streams, and a
//! body buffer that holds any request of the test.

use std::{
    net::{SocketAddr, TcpListener},
    process::Command,
};

use anyhow::Context;

use super::process::{Children, Scratch, wait_until_open};

/// A running nginx.
pub(super) struct Nginx {
    pub(super) addr: SocketAddr,
    /// The master; its workers are below it.
    pub(super) pid: u32,
}

pub(super) fn start(
    scratch: &Scratch,
    children: &mut Children,
    upstream: SocketAddr,
) -> anyhow::Result<Nginx> {
    let folder = scratch.path().join("nginx");
    std::fs::create_dir(&folder).context("make nginx's folder")?;
    // nginx cannot be given port 0 and asked for its choice. The port is free now, and taken a
    // moment later; if another process is quicker, nginx says so and the run fails.
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    std::fs::write(folder.join("nginx.conf"), configuration(addr, upstream))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).args(["-e", "stderr", "-c", "nginx.conf"]);
    let started = children
        .start(&mut command, "nginx")
        .context("nginx is needed to compare with (Debian: apt-get install nginx)")?;
    wait_until_open(addr)?;
    Ok(Nginx { addr, pid: started.pid })
}

fn configuration(addr: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "\
user root;
daemon off;
pid nginx.pid;
worker_processes 1;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_body_buffer_size 1m;
    client_max_body_size 8m;
    keepalive_requests 1000000;
    tcp_nodelay on;
    upstream engine {{
        server {upstream};
        keepalive 128;
        keepalive_requests 1000000;
    }}
    server {{
        listen {addr};
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
        }}
    }}
}}
"
    )
}
