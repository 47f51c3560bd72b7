# vars: tag=2
# What is known now is filled in; what only a node knows stays as it is written.
variable "tag" {}

locals {
  where = "${node.name}.${node.datacenter}"
}

task "web" {
  image   = "cube/hello:${var.tag}-${attr.cpu.arch}"
  command = "/bin/sh"
  args    = ["-c", "echo $${HOME} $HOME ${CUBE_ALLOC_ID} %%{x}", local.where]
  user    = "${meta.user}"
  env {
    BOTH = "${var.tag}-${node.name}"
    MAP  = jsonencode({ node = "${node.id}", port = "${CUBE_PORT_http}" })
    PICK = var.tag == "2" ? "${node.address}" : "none"
    LONG = <<-EOT
      server ${CUBE_ADDR_http}
        tag ${var.tag}
    EOT
  }
  port "http" {}
  config {
    extra_hosts = ["self:${node.address}"]
  }
}
