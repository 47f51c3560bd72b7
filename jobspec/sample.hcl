# A task is what runs: an image, in one or more instances.
#
#   cube task run web.hcl       run it, or change what runs to what this file says now
#   cube task status web        see where its instances are
#   cube task logs web -f       follow what they write
#   cube task stop web          stop it

variable "tag" {
  description = "version of the image; another one: cube task run -var tag=2 web.hcl"
  default     = "1"
}

task "web" {
  # The image of Cube's own examples; in a copy of the source: go run ./internal/hello/image
  # One from a registry does as well: image = "nginx:1.28", with to = 80 in the port below.
  image = "cube/hello:${var.tag}"
  count = 2

  # Each instance gets a free port of its node. It stands in the addresses of
  # "cube task status web" and in the variable CUBE_PORT_http of the instance.
  port "http" {}

  env {
    NODE = "${node.name}" # filled in where the instance runs
  }

  resources {
    cpu    = 0.1 # cores
    memory = 64  # MiB
  }

  # An instance that ends is started again, with growing pauses. These are the
  # defaults; mode = "fail" with attempts = 3 would give up after three.
  restart {
    delay     = "1s"
    max_delay = "5m"
  }

  # Instances prefer different nodes.
  spread {
    attribute = "node.name"
  }
}
