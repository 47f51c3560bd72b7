task "web" {
  image = "nginx:1.28"
}
