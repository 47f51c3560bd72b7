# Converted from expressions. Comments say what a person has to decide.

variable "size" {
  type    = number
  default = 500
}

variable "hosts" {
  type    = list(string)
  default = ["a:10.0.0.1"]
}

variable "debug" {
  type    = bool
  default = false
}

job "expr" {
  datacenters = var.hosts

  task "t" {
    image = "t:1"
    count = var.debug ? 1 : 3
    env = {
      "a.b"    = "x"
      "LIST"   = jsonencode({ a = [1, 2], b = null })
      "SECRET" = "$${env.HOME}"
      "SHELL"  = "$${HOME} %%{x}"
      "TEXT"   = "first\nsecond ${CUBE_JOB_NAME}\n"
    }

    resources {
      # MHz, at 2500 MHz a core
      cpu    = (var.size) / 2500
      memory = var.size / 2
    }

    config {
      extra_hosts = var.hosts
    }
  }
}
