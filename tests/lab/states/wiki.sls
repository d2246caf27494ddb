# Where the application finds its database, and its notice, is not written here.
/etc/nginx/conf.d/site-names.conf:
  file.managed:
    - contents: server_names_hash_bucket_size 128;

nginx:
  service.running:
    - watch:
      - file: /etc/nginx/conf.d/site-names.conf
