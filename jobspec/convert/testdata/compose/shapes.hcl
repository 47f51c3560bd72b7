# Converted from shapes. Comments say what a person has to decide.

variable "HTTPS_PORT" {
  type    = number
  default = 8443
}

variable "API_PORT" {
  type = number
}

variable "ADMIN_PORT" {
  type = number
}

variable "SITE" {
  default = "main"
}

variable "API_KEY" {}

job "shop" {
  # ./config/web at /etc/web is left out: what is written there is lost with the container; put files into the
  # image, or name the directory in the node's configuration and ask for it with volume
  task "web" {
    image = "shop/web:1"

    port "http" {
      to = 80
    }

    port "https" {
      static = var.HTTPS_PORT
      to     = 443
    }

    port "port-9000" {
      to = 9000
    }

    port "http-2" {
      static = var.API_PORT
      to     = 8080
    }

    port "port-8081" {
      static = var.ADMIN_PORT
      to     = 8081
    }

    port "port-9100" {
      to = 9100
    }

    port "port-9101" {
      to = 9101
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    volume "web-data" {
      destination = "/srv/${var.SITE}"
    }

    volume "assets" {
      destination = "/srv/assets"
    }

    check "health" {
      type    = "exec"
      command = ["/bin/sh", "-c", "curl -sSfL --head -o /dev/null -H \"Authorization: Bearer ${var.API_KEY}\" http://localhost:80/health"]
    }

    config {
      tmpfs = ["/run/web:size=64m,mode=01777"]
    }
  }

  task "cron" {
    image = "shop/cron:1"

    # memory: 128 MiB, a limit, unless it is given here
    resources {}
  }
}
