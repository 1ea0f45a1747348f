use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{mpsc, Arc, Mutex};
use std::{fs, thread};

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || {
        let (mut line, _) = listener.accept().unwrap();
        let mut text = [0; 5];
        line.read_exact(&mut text).unwrap();
        line.write_all(&text).unwrap();
    });
    let mut line = TcpStream::connect(address)?;
    line.write_all(b"hello")?;
    let mut text = String::new();
    line.read_to_string(&mut text)?;
    server.join().unwrap();
    println!("{text}");
    let total = Arc::new(Mutex::new(0));
    let (send, receive) = mpsc::channel();
    for i in 0..8 {
        let (total, send) = (total.clone(), send.clone());
        thread::spawn(move || {
            *total.lock().unwrap() += i;
            send.send(()).unwrap();
        });
    }
    drop(send);
    receive.iter().count();
    println!("{}", total.lock().unwrap());
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    udp.send_to(b"x", udp.local_addr()?)?;
    println!("{}", udp.recv(&mut [0; 8])?);
    println!("{:?}", Command::new("/bin/echo").arg("child").output()?.stdout);
    fs::create_dir_all("a/b")?;
    fs::write("a/b/c", "x")?;
    fs::copy("a/b/c", "a/d")?;
    println!("{} {:?}", fs::read_to_string("a/d")?, thread::available_parallelism().is_ok());
    Ok(())
}
