# Converted from traefik. Comments say what a person has to decide.

job "shop" {
  # /var/run/docker.sock at /var/run/docker.sock is left out: what is written there is lost with the container;
  # put files into the image, or name the directory in the node's configuration and ask for it with volume
  task "traefik" {
    image   = "traefik:v3.5"
    command = "--providers.docker=true"
    args    = ["--entrypoints.web.address=:80"]

    port "http" {
      static = 80
      to     = 80
    }

    # it was published on 127.0.0.1 only; Cube publishes ports on the node's address
    port "http-2" {
      static = 8080
      to     = 8080
    }

    # it was published on ::1 only; Cube publishes ports on the node's address
    port "https" {
      static = 8443
      to     = 443
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}
  }

  task "whoami" {
    image = "traefik/whoami"
    count = 3

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    config {
      labels = {
        "traefik.enable"                   = "true"
        "traefik.http.routers.whoami.rule" = "Host(`whoami.localhost`)"
      }
    }
  }
}
