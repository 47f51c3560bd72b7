# Converted from shapes. Comments say what a person has to decide.

variable "dc" {
  default = "dc1"
}

variable "version" {
  default = "1.2.40"
}

variable "uid" {
  default = 1000
}

variable "tags" {
  default = ["a"]
}

variable "port" {
  type = number
}

variable "admin" {
  type = number
}

job "shapes" {
  datacenters = [var.dc]

  task "web" {
    image = "shop/web:${var.version}"

    port "http" {
      static = var.port
      to     = 8080
    }

    port "admin" {
      static = var.admin
    }

    env {
      PUID = var.uid
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }

    check "web-http" {
      type          = "http"
      port          = "http"
      path          = "/"
      interval      = "10s"
      timeout       = "2s"
      start_period  = "20s"
      restart_after = 3
    }

    check "own" {
      type          = "grpc"
      port          = "http"
      interval      = "10s"
      timeout       = "2s"
      restart_after = 5
    }
  }

  task "api" {
    image = "shop/api:1"

    port "api" {
      to = 9000
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }

  task "log" {
    driver  = "raw_exec"
    command = "/usr/bin/log"

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }
}
