# Converted from hardened. Comments say what a person has to decide.

job "shop" {
  task "proxy" {
    image       = "haproxy:3.2"
    command     = "haproxy"
    args        = ["-f", "haproxy.cfg"]
    user        = "haproxy"
    work_dir    = "/usr/local/etc/haproxy"
    kill_signal = "SIGUSR1"

    port "http" {
      static = 80
      to     = 80
    }

    port "https" {
      static = 443
      to     = 443
    }

    resources {
      cpu    = 0.5
      memory = "256MiB"
    }

    restart {
      attempts = 5
      mode     = "fail"
    }

    config {
      entrypoint = ["/docker-entrypoint.sh"]
      hostname   = "edge"
      cap_drop   = ["ALL"]
      tmpfs      = ["/run:size=16m", "/tmp"]
      force_pull = true
      read_only  = true
    }
  }
}
