//! Proxies from the system's packages, set up as well as we know how.
//!
//! nginx: one worker, kept-alive connections on both sides, no buffering of streams, and a body buffer that holds
//! any request of the test: with the one it has by default, a body of 100 kB waits for a file. HAProxy: one thread,
//! and `http-no-delay`, without which the first chunk of a stream waits 200 ms.

use std::{net::SocketAddr, process::Command};

use anyhow::Context;

use super::{Row, Started, free_addr};
use crate::bench::process::{Children, Scratch, wait_until_open};

pub(super) fn nginx(
    scratch: &Scratch,
    children: &mut Children,
    upstream: SocketAddr,
) -> anyhow::Result<Started> {
    let folder = scratch.path().join("nginx");
    std::fs::create_dir(&folder).context("make nginx's folder")?;
    let addr = free_addr()?;
    std::fs::write(folder.join("nginx.conf"), nginx_configuration(addr, upstream))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).args(["-e", "stderr", "-c", "nginx.conf"]);
    let started = children.start(&mut command, "nginx").context("Debian: apt-get install nginx")?;
    wait_until_open(addr)?;
    Ok(Started::upstream(Row::Nginx, addr, started.pid))
}

fn nginx_configuration(addr: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "\
user root;
daemon off;
pid nginx.pid;
worker_processes 1;
worker_rlimit_nofile 16384;
error_log stderr error;
events {{ worker_connections 8192; }}
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
        keepalive 1024;
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

pub(super) fn haproxy(
    scratch: &Scratch,
    children: &mut Children,
    upstream: SocketAddr,
) -> anyhow::Result<Started> {
    let file = scratch.path().join("haproxy.cfg");
    let addr = free_addr()?;
    std::fs::write(&file, haproxy_configuration(addr, upstream))?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let started =
        children.start(&mut command, "haproxy").context("Debian: apt-get install haproxy")?;
    wait_until_open(addr)?;
    Ok(Started::upstream(Row::Haproxy, addr, started.pid))
}

fn haproxy_configuration(addr: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "\
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend clients
    bind {addr}
    default_backend engine
backend engine
    server engine {upstream}
"
    )
}
