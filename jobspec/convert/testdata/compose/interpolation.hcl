# Converted from interpolation. Comments say what a person has to decide.

variable "REGISTRY" {
  default = "docker.io"
}

variable "TAG" {
  default = "latest"
}

variable "MODE" {
  default = ""
}

variable "PEER" {}

variable "FLAG" {
  default = ""
}

variable "A" {
  default = ""
}

variable "B" {
  default = "c"
}

variable "API_TOKEN" {
  sensitive   = true
  description = "ask the security team"
}

variable "SHARED_SECRET" {}

variable "COUNT" {
  type = number
}

variable "PASSED" {}

job "demo" {
  task "app" {
    image   = "${var.REGISTRY}/app:${var.TAG}"
    count   = var.COUNT
    command = "--mode=${var.MODE == "" ? "dev" : var.MODE}"
    args    = ["--peer=${var.PEER}", "--flag${var.FLAG == "" ? "" : "=on"}", "literal $HOME $${", "%%{if}", "\u0024${var.TAG}"]
    env = {
      "MODE"          = var.MODE == "" ? "prod" : var.MODE
      "NESTED"        = var.A == "" ? var.B : var.A
      "API_TOKEN"     = var.API_TOKEN
      "SHARED_SECRET" = var.SHARED_SECRET
      "EMPTY"         = ""
      "NUMBER"        = "5"
      "YES"           = "yes"
      "PASSED"        = var.PASSED
      "with.dot"      = "x"
    }

    resources {
      memory = "128MiB"
    }

    config {
      hostname = "${var.SHARED_SECRET}-host"
    }
  }
}
